/** What the agent is told of its sandbox: rendered for it, found again, and nothing else of the folder changed. */
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync, utimesSync } from "node:fs";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { settings } from "../../src/config/schema.ts";
import type { Provider } from "../../src/sandbox/provider.ts";
import { Secret } from "../../src/secret.ts";
import { agentHome, homeProblems } from "../../src/session/agent-home.ts";
import { homeFacts, placeholders } from "../../src/session/home-facts.ts";
import { renderTemplate } from "../../src/session/home-template.ts";
import type { SessionOptions } from "../../src/session/session.ts";
import { testLimits } from "../helpers/sandbox-spec.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";

const root = join(import.meta.dirname, "../..");
const templates = ["instructions", "templates/code", "templates/empty"];
const mlPolicy = settings.egress.parse("ml") as { allow: string[] };

/** The least that a session can have. */
function optionsWith(changes: Partial<SessionOptions> = {}, sharedVolumes = true): SessionOptions {
  return {
    // all that rendering may know of a provider
    provider: { capabilities: { sharedVolumes } } as unknown as Provider,
    name: "any",
    anthropic: { apiKey: new Secret("sk-ant-not-to-be-seen"), origin: "https://api.anthropic.com" },
    maxTurns: 100,
    egressHostnames: [],
    limits: { ...testLimits, memoryMiB: 2048, lifetimeMs: 3_600_000 },
    knownCredentials: new Map(),
    stateFolder: "/nonexistent",
    ...changes,
  };
}

const secret = new Secret("token-not-to-be-seen");
/** Everything that can be switched on. */
const everything: Partial<SessionOptions> = {
  egressHostnames: mlPolicy.allow,
  machine: { gpus: ["H100", "A10:2"], cpuCores: 4, maxWaitMs: 60_000 },
  limits: { ...testLimits, memoryMiB: 8192, lifetimeMs: 24 * 3_600_000 },
  useLimits: { usd: 20 },
  github: {
    token: secret,
    repositories: { "acme/thesis": "write", "acme/library": "read" },
    origin: "https://github.com",
    apiOrigin: "https://api.github.com",
  },
  huggingface: { token: secret, repositories: ["acme/private"], origin: "https://huggingface.co" },
  metrics: {
    ...{ spaces: ["you/metrics", "you/*"], createSpace: "private", withMedia: true, hfToken: secret },
    ...{ intervalMs: 10_000, maxBytesPerHour: 1 },
  },
  upstreams: [{ name: "weather", origin: "https://weather.example", allow: [{ methods: ["GET"], path: "/v1/*" }] }],
  dangerouslyGivenToAgent: new Map([["GITHUB_TOKEN", secret]]),
};

function renderedText(template: string, options: SessionOptions, byPath = false): string {
  const text = readFileSync(join(root, template, "CLAUDE.md"), "utf8");
  return renderTemplate(text, homeFacts(options, byPath), template);
}

for (const template of templates) {
  test(`${template}: below 120 lines whatever is switched on, nothing left open, and no credential`, () => {
    for (const options of [optionsWith(), optionsWith(everything), optionsWith(everything, false)]) {
      for (const byPath of [false, true]) {
        const text = renderedText(template, options, byPath);
        assert.ok(text.split("\n").length < 120);
        assert.doesNotMatch(text, /\{\{|\}\}|undefined|NaN|\n\n\n|not-to-be-seen/);
      }
    }
  });
}

test("all templates say the same of the machine and of the rules", () => {
  const [, ml, code, empty] = ["", ...templates.map((name) => readFileSync(join(root, name, "CLAUDE.md"), "utf8"))];
  assert.ok(empty && ml?.startsWith(`${empty}\n# How to work\n`), "ml begins with empty's text");
  assert.ok(code?.startsWith(`${empty}\n# How to work\n`), "code begins with empty's text");
});

test("a session with everything: the agent reads what it has, and how far it goes", () => {
  const text = renderedText("instructions", optionsWith(everything, false));
  for (const words of [
    /GPU: the first that was free of H100 \(80 GB\), 2 × A10 \(24 GB each\)\. Memory: 8 GiB\. Cores: 4\./,
    /may take 100 steps\. The session may cost \$20 /,
    /ends after 24 hours/,
    /the last few seconds can be lost/,
    /`pypi\.org`.*`\*\.hf\.co`.*and no others/,
    /apt-get install/,
    /only these: `acme\/library` \(read\), `acme\/thesis` \(read and write\)/,
    /`git` works; `gh` does not/,
    /with the user's rights: `acme\/private`/,
    /go to the Spaces `you\/metrics`, `you\/\*`, made when it is missing/,
    /Images and sounds are sent/,
    /`weather` \(GET \/v1\/\*\)/,
    /but for `GITHUB_TOKEN`, which the user put there/,
    /where the metrics go: which Space, which project\./,
  ]) {
    assert.match(text, words);
  }
  assert.doesNotMatch(text, /PyPI is not allowed|cannot be reached|cannot be installed/);
  assert.match(renderedText("instructions", optionsWith(everything), true), /`git` and `gh` both work/);
});

test("a session with nothing: the agent reads what it lacks, and what the user can do", () => {
  const text = renderedText("instructions", optionsWith());
  for (const words of [
    /There is no GPU\. Memory: 2 GiB\. Cores: `nproc` says how many/,
    /ends after 60 minutes/,
    /PyPI is not allowed here/,
    /npm's registry is not allowed/,
    /System packages\*\* cannot be installed/,
    /Hostnames\*\*: none but the proxy/,
    /GitHub\*\*: no repository/,
    /Hugging Face cannot be reached\.\*\*[\s\S]*--egress ml/,
    /stay in this session/,
    /There is no credential in here\. /,
  ]) {
    assert.match(text, words);
  }
  assert.doesNotMatch(text, /seconds can be lost|apt-get|HF_ENDPOINT|Images and sounds|APIs of the user/);
});

test("Hugging Face by hostname alone, by the proxy alone, and without its storage", () => {
  const said = (changes: Partial<SessionOptions>) => renderedText("instructions", optionsWith(changes));
  const { huggingface } = everything as Required<SessionOptions>;
  const publicOnly = said({ egressHostnames: ["huggingface.co", "*.hf.co"] });
  assert.match(publicOnly, /public models and datasets, only reading/);
  assert.doesNotMatch(publicOnly, /large files|cannot be reached/);
  assert.match(
    said({ egressHostnames: ["huggingface.co"] }),
    /large files come from `\*\.hf\.co`, which is not allowed/,
  );
  const brokered = said({ huggingface: { token: huggingface.token, origin: huggingface.origin } });
  assert.match(brokered, /with the user's rights: all that it may read[\s\S]*which is not allowed/);
  const open = said({ egressHostnames: "dangerously-allow-all-hostnames" });
  assert.match(open, /all public ones/);
  assert.doesNotMatch(open, /and no others|none but the proxy|large files|PyPI is not/);
});

test("GPUs, spans and destinations in words", () => {
  const facts = (changes: Partial<SessionOptions>) => homeFacts(optionsWith(changes), false);
  const gpu = (...gpus: string[]) => facts({ machine: { gpus, maxWaitMs: 1 } }).gpu;
  assert.deepEqual(
    [gpu(), gpu("A10"), gpu("t4"), gpu("H100!"), gpu("A100-80GB:2"), gpu("NEW"), gpu("NEW:2", "L4")],
    [
      ...["", "an A10 with 24 GB", "a T4 with 16 GB", "an H100 with 80 GB", "2 × A100-80GB with 80 GB each", "an NEW"],
      "the first that was free of 2 × NEW, L4 (24 GB)",
    ],
  );
  const metrics = { spaces: [], server: "https://trackio.example/x", withMedia: false, createSpace: undefined };
  const server = { ...metrics, intervalMs: 1, maxBytesPerHour: 1 };
  assert.equal(facts({ metrics: server }).metrics, "the user's trackio server at trackio.example");
  const minutes = (count: number) => facts({ limits: { ...testLimits, lifetimeMs: count * 60_000 } }).lifetime;
  assert.deepEqual([minutes(1), minutes(90), minutes(150)], ["1 minute", "90 minutes", "2.5 hours"]);
});

test("the language: names, sections, their opposite, one in the other, and words that only look like it", () => {
  const render = (text: string) => renderTemplate(text, { on: "yes", off: "" }, "CLAUDE.md");
  assert.equal(render("a {{on}} b {{off}}."), "a yes b .");
  assert.equal(render("{{#on}}1{{#off}}2{{/off}}{{^off}}3{{/off}}{{/on}}{{^on}}4{{#on}}5{{/on}}{{/on}}"), "13");
  assert.equal(render("x\n{{#on}}\nline\n{{/on}}\n{{#off}}\ngone\n{{/off}}\ny\n"), "x\nline\ny\n");
  const other = "\x24{{ secrets.X }} {{ name }} {{a.b}} {{}} {{a-b}} {{!a}} {name} {{{ on }}}";
  assert.equal(render(other), other);
  assert.equal(render("\\{{on}} \\{{#unknown}}"), "{{on}} {{#unknown}}");
  for (const [text, words] of [
    ["{{gpus}}", /^Unknown placeholder \{\{gpus\}\} in CLAUDE\.md$/],
    ["{{#off}}{{gpus}}{{/off}}", /Unknown placeholder/],
    ["{{#on}} x", /^The section "on" is not closed in CLAUDE\.md$/],
    ["{{#on}}{{#off}}{{/on}}{{/off}}", /\{\{\/on\}\} closes no section/],
    ["{{/on}}", /\{\{\/on\}\} closes no section/],
  ] as const) {
    assert.throws(() => render(text), { name: "ConfigError", message: words }, text);
  }
  assert.throws(() => render("{{gpus}}"), { hint: /the names are on, off; \\\{\{gpus\}\} is ordinary text/ });
});

/** A folder of instructions, and a state folder. */
async function scene() {
  const folder = await temporaryFolder();
  const instructions = join(folder.path, "own");
  await mkdir(join(instructions, "skills/mine"), { recursive: true });
  const options = (changes: Partial<SessionOptions> = {}) =>
    optionsWith({ instructions, stateFolder: join(folder.path, "state"), ...changes });
  return { folder, instructions, options, [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose]() };
}

test("the copy: CLAUDE.md rendered, all else as it is, links too, the same path for the same content", async () => {
  await using own = await scene();
  const { instructions, options } = own;
  const notOurs = Buffer.from("{{gpu}} \xff\r\n", "latin1");
  await writeFile(join(instructions, "CLAUDE.md"), "I have {{#gpu}}{{gpu}}{{/gpu}}{{^gpu}}no GPU{{/gpu}}.\n");
  await writeFile(join(instructions, "skills/mine/SKILL.md"), notOurs);
  await writeFile(join(instructions, "run.sh"), "#!/bin/sh\n", { mode: 0o755 });
  await symlink("/etc/passwd", join(instructions, "outside"));
  await symlink("skills/mine", join(instructions, "inside"));
  await writeFile(join(instructions, "settings.local.json"), "{}");
  await mkdir(join(instructions, "skills/__pycache__"));
  await writeFile(join(instructions, "skills/__pycache__/x.pyc"), "x");
  const copy = agentHome(options(), false);
  assert.equal(readFileSync(join(copy, "CLAUDE.md"), "utf8"), "I have no GPU.\n");
  assert.deepEqual(readFileSync(join(copy, "skills/mine/SKILL.md")), notOurs);
  assert.ok((statSync(join(copy, "run.sh")).mode & 0o100) !== 0);
  assert.deepEqual(
    [readlinkSync(join(copy, "outside")), readlinkSync(join(copy, "inside"))],
    ["/etc/passwd", "skills/mine"],
  );
  assert.deepEqual(readdirSync(copy).sort(), ["CLAUDE.md", "inside", "outside", "run.sh", "skills"]);
  assert.deepEqual(readdirSync(join(copy, "skills")), ["mine"]);
  utimesSync(join(instructions, "CLAUDE.md"), 1, 1);
  assert.equal(agentHome(options(), false), copy);
  assert.notEqual(agentHome(options({ machine: { gpus: ["A10"], maxWaitMs: 1 } }), false), copy);
  // a link's target and a program's mode are content, too
  execFileSync("ln", ["-sfn", "/etc/group", join(instructions, "outside")]);
  const changed = agentHome(options(), false);
  assert.notEqual(changed, copy);
  execFileSync("chmod", ["-x", join(instructions, "run.sh")]);
  assert.notEqual(agentHome(options(), false), changed);
});

test("a CLAUDE.md without placeholders is taken byte for byte, and one that is a link stays a link", async () => {
  await using own = await scene();
  const path = join(own.instructions, "CLAUDE.md");
  const bytes = Buffer.from("\xfe # Mine\r\n\x24{{ github.ref }} {{ jinja }}", "latin1");
  await writeFile(path, bytes);
  assert.deepEqual(readFileSync(join(agentHome(own.options(), false), "CLAUDE.md")), bytes);
  await writeFile(join(own.folder.path, "hidden"), "{{gpu}} of the host");
  execFileSync("ln", ["-sf", join(own.folder.path, "hidden"), path]);
  const copy = agentHome(own.options(), false);
  assert.equal(readlinkSync(join(copy, "CLAUDE.md")), join(own.folder.path, "hidden"));
  assert.deepEqual(homeProblems(own.instructions), [
    "CLAUDE.md is a link out of the folder, or to nothing: claude will not see it",
    "skills/mine has no SKILL.md: claude will not see it; folders in folders are not looked into",
  ]);
});

test("what is refused: an unknown placeholder, too much, a pipe, the user's own login, what cannot be read", async () => {
  await using own = await scene();
  const claudeFile = join(own.instructions, "CLAUDE.md");
  const refused = (message: RegExp) =>
    assert.throws(() => agentHome(own.options(), false), { name: "ConfigError", message });
  await writeFile(claudeFile, "{{gpuMemory}}");
  refused(/Unknown placeholder \{\{gpuMemory\}\} in .*own\/CLAUDE\.md/);
  await writeFile(claudeFile, "");
  await writeFile(join(own.instructions, "big"), Buffer.alloc(9 * 1024 * 1024));
  refused(/are too large: more than 8 MiB with "big"/);
  execFileSync("rm", [join(own.instructions, "big")]);
  execFileSync("mkfifo", [join(own.instructions, "pipe")]);
  refused(/pipe" is neither a file nor a folder nor a link/);
  execFileSync("rm", [join(own.instructions, "pipe")]);
  await writeFile(join(own.instructions, ".credentials.json"), "{}");
  refused(/holds the login of Claude Code/);
  assert.ok(!existsSync(join(own.folder.path, "state")), "nothing was copied");
  assert.throws(() => agentHome(own.options({ instructions: "/nonexistent" }), false), { name: "ConfigError" });
});

test("copies that no start has used for a week are removed; the others, and the one in use, stay", async () => {
  await using own = await scene();
  const copyOf = async (text: string) => {
    await writeFile(join(own.instructions, "CLAUDE.md"), text);
    return agentHome(own.options(), false);
  };
  const eightDaysAgo = new Date(Date.now() - 8 * 24 * 3_600_000);
  const first = await copyOf("one");
  const second = await copyOf("two");
  for (const path of [first, second]) utimesSync(path, eightDaysAgo, eightDaysAgo);
  assert.equal(await copyOf("one"), first);
  const third = await copyOf("three");
  assert.deepEqual([first, second, third].map(existsSync), [true, false, true]);
});

test("processes that start at once make one copy, and leave nothing else", async () => {
  await using own = await scene();
  await writeFile(join(own.instructions, "CLAUDE.md"), "{{memory}}");
  for (let i = 0; i < 200; i++) await writeFile(join(own.instructions, `file-${i}`), "x");
  const { limits, egressHostnames, maxTurns, stateFolder, instructions } = own.options();
  const plain = { limits, egressHostnames, maxTurns, stateFolder, instructions, provider: { capabilities: {} } };
  const program = `import { agentHome } from ${JSON.stringify(join(root, "src/session/agent-home.ts"))};
    process.stdout.write(agentHome(${JSON.stringify(plain)}, false));`;
  const run = () => promisify(execFile)(process.execPath, ["--input-type=module", "-e", program]);
  const paths = (await Promise.all(Array.from({ length: 6 }, run))).map(({ stdout }) => stdout);
  assert.equal(new Set(paths).size, 1);
  assert.deepEqual(readdirSync(join(own.folder.path, "state/cache/home")), [basename(paths[0] ?? "")]);
  assert.equal(readdirSync(paths[0] ?? "").length, 201);
});

test("docs/agent-home.md lists every placeholder with the code's own words", () => {
  const page = readFileSync(join(root, "docs/agent-home.md"), "utf8");
  const rows = Object.entries(placeholders).map(([name, words]) => `| \`{{${name}}}\` | ${words} |`);
  const table = page.split("\n").filter((line) => line.startsWith("| `{{"));
  assert.deepEqual(table, rows);
});
