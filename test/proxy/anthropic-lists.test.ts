/**
 * Every name that the Messages API is known to take is in one of the three lists: collected from the pinned claude
 * program, from the types of the official SDKs, and from requests that claude sends.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createReadStream, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { script, sequence, text, toolUse } from "../../src/demo/script.ts";
import { startScriptedApi } from "../../src/demo/scripted-api.ts";
import { betaRules, features, fieldRules, type Rule, ruleOf, toolRules } from "../../src/proxy/anthropic-lists.ts";
import { Claude } from "../demo/claude.ts";
import { installPackages, packagesFolder } from "../helpers/python-packages.ts";

const packageFolder = (name: string) => dirname(fileURLToPath(import.meta.resolve(name)));
const sdkFolder = packageFolder("@anthropic-ai/sdk");
const types = ["messages/messages.d.ts", "beta/messages/messages.d.ts", "beta/beta.d.ts"].map((path) =>
  readFileSync(join(sdkFolder, "resources", path), "utf8"),
);
const claudeProgram = join(
  packageFolder("@anthropic-ai/claude-agent-sdk"),
  `../claude-agent-sdk-linux-${process.arch}/claude`,
);

/** Words of the claude program with a date at their end that are no betas of the API. */
const notBetas = new Set([
  // versions of the API of two clouds
  "bedrock-2023-05-31",
  "vertex-2023-10-16",
  // a version of the Model Context Protocol, and an example in a text
  "pre-2026-07-28",
  "foo-2025-01-01",
]);

function unlisted(rules: Readonly<Record<string, Rule>>, names: Iterable<string>): string[] {
  return [...new Set(names)].filter((name) => ruleOf(rules, name) === undefined).sort();
}

/** Every word with a date at its end. */
async function betasOf(program: string): Promise<Set<string>> {
  const found = new Set<string>();
  let tail = "";
  for await (const chunk of createReadStream(program, { highWaterMark: 8 * 1024 * 1024 })) {
    const piece = tail + (chunk as Buffer).toString("latin1");
    for (const [word] of piece.matchAll(/(?<![\w-])[a-z][a-z0-9]*(?:-[a-z0-9]+)*-20\d\d-\d\d-\d\d(?![\w-])/g)) {
      found.add(word);
    }
    tail = piece.slice(-200);
  }
  return found;
}

/** The properties of an interface, without those that the SDK sends as headers. */
function propertiesOf(source: string, name: string): string[] {
  const body = new RegExp(`export interface ${name}[^{]*\\{([\\s\\S]*?)\\n\\}`).exec(source)?.[1] ?? "";
  const properties = [...body.matchAll(/(?:\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*)?\n {4}(\w+)\??:/g)];
  return properties.flatMap(([, comment = "", property = ""]) => (comment.includes("Header param") ? [] : [property]));
}

/** The types that the members of a union of tools have. */
function toolTypesOf(source: string, union: string): string[] {
  const members = new RegExp(`export type ${union} = ([^;]*);`).exec(source)?.[1] ?? "";
  return members.split("|").map((member) => {
    const body = new RegExp(`export interface ${member.trim()} \\{([\\s\\S]*?)\\n\\}`).exec(source)?.[1] ?? "";
    return /\n {4}type\??: '(\w+)'/.exec(body)?.[1] ?? `no type in ${member}`;
  });
}

let ofProgram: Set<string>;
before(async () => {
  ofProgram = await betasOf(claudeProgram);
});

test("every beta in the claude program is listed", () => {
  assert.ok(ofProgram.size > 40, `only ${ofProgram.size} found`);
  assert.deepEqual(
    unlisted(betaRules, ofProgram).filter((name) => !notBetas.has(name)),
    [],
  );
});

test("a beta that is taken out of the list is found", () => {
  const { "fallback-credit": _taken, ...others } = betaRules;
  assert.ok(unlisted(others, ofProgram).includes("fallback-credit-2026-06-01"));
});

test("every beta in the SDK's types is listed", () => {
  const union = /export type AnthropicBeta = ([^;]*);/.exec(types[2] ?? "")?.[1] ?? "";
  const betas = [...union.matchAll(/'([\w-]+)'/g)].map(([, beta = ""]) => beta);
  assert.ok(betas.length > 40, `only ${betas.length} found`);
  assert.deepEqual(unlisted(betaRules, betas), []);
});

const pythonSdk = "anthropic-2.14.0";
/** Prints the betas, the parameters of both kinds of request, and the tools that the Python SDK's types name. */
const pythonTypes = `
import importlib, json, typing
from anthropic.types.anthropic_beta_param import AnthropicBetaParam
names = {"betas": [], "fields": set(), "tools": set()}
for member in typing.get_args(AnthropicBetaParam): names["betas"] += typing.get_args(member)
for place in ["", ".beta"]:
    for page in ["message_create_params", "message_count_tokens_params"]:
        for name, kind in vars(importlib.import_module(f"anthropic.types{place}.{page}")).items():
            if name.startswith("Message") and hasattr(kind, "__annotations__"): names["fields"] |= set(kind.__annotations__)
    union = "BetaToolUnionParam" if place else "ToolUnionParam"
    page = importlib.import_module(f"anthropic.types{place}.{'beta_' if place else ''}tool_union_param")
    for tool in typing.get_args(getattr(page, union)):
        for text in typing.get_type_hints(tool).values():
            for word in typing.get_args(text):
                if isinstance(word, str) and word[-8:].isdigit(): names["tools"].add(word)
print(json.dumps({key: sorted(value) for key, value in names.items()}))
`;

test("every beta, field and tool in the Python SDK's types is listed", async (context) => {
  const missing = await installPackages(pythonSdk, [pythonSdk.replace("-", "==")]);
  if (missing !== undefined) return context.skip(missing);
  const printed = execFileSync("python3", ["-c", pythonTypes], {
    env: { ...process.env, PYTHONPATH: packagesFolder(pythonSdk) },
  });
  const { betas, fields, tools } = JSON.parse(printed.toString()) as Record<"betas" | "fields" | "tools", string[]>;
  assert.ok(betas.length > 40 && fields.includes("thread") && tools.includes("web_fetch_20250910"), printed.toString());
  assert.deepEqual(unlisted(betaRules, betas), []);
  // the SDK sends it as the header anthropic-beta
  assert.deepEqual(
    unlisted(fieldRules, fields).filter((name) => name !== "betas"),
    [],
  );
  assert.deepEqual(unlisted(toolRules, tools), []);
});

test("every field of a request in the SDK's types is listed", () => {
  for (const source of types.slice(0, 2)) {
    for (const name of ["MessageCreateParamsBase", "MessageCountTokensParams"]) {
      const fields = propertiesOf(source, name);
      assert.ok(fields.includes("messages") && fields.includes("cache_control"), name);
      assert.deepEqual(unlisted(fieldRules, fields), [], name);
    }
  }
});

test("every tool in the SDK's types is listed", () => {
  for (const [index, union] of ["ToolUnion", "BetaToolUnion"].entries()) {
    const tools = toolTypesOf(types[index] ?? "", union);
    assert.ok(tools.length > 10 && tools.includes("web_fetch_20250910"), union);
    assert.deepEqual(unlisted(toolRules, tools), [], union);
  }
});

test("what claude sends is listed, and passes: a turn, a tool, a summary of the conversation", async () => {
  await using api = await startScriptedApi({
    script: script(
      [{ when: /^use/, replies: [toolUse("Bash", { command: "true" }), text("used")] }],
      sequence(text("done"), text("and more")),
    ),
  });
  await using claude = await Claude.start(api.origin);
  for (const message of ["use a tool", "/compact", "go on"]) {
    const { result } = await claude.say(message);
    assert.equal(result.is_error, false, message);
  }
  const betas = api.requests.flatMap(({ headers }) => String(headers["anthropic-beta"] ?? "").split(","));
  const fields = api.requests.flatMap(({ body }) => Object.keys(body as object));
  const passes = (rules: Readonly<Record<string, Rule>>, name: string) => "passes" in (ruleOf(rules, name) ?? {});
  assert.ok(betas.includes("fallback-credit-2026-06-01"), "the summary was asked for with its beta");
  assert.deepEqual(
    betas.filter((name) => !passes(betaRules, name)),
    [],
  );
  assert.deepEqual(
    fields.filter((name) => !passes(fieldRules, name)),
    [],
  );
  const tools = api.requests.flatMap(({ body }) => (body as { tools?: { type?: string }[] }).tools ?? []);
  assert.notEqual(tools.length, 0);
  assert.deepEqual(
    tools.map(({ type = "custom" }) => type).filter((name) => !passes(toolRules, name)),
    [],
  );
});

test("every rule says why, and every feature that a rule opens exists", () => {
  for (const rule of [betaRules, fieldRules, toolRules].flatMap((rules) => Object.values(rules))) {
    if ("opens" in rule) assert.ok(Object.hasOwn(features, rule.opens));
    else assert.ok(Object.values(rule).every((words) => words.length > 0));
  }
});
