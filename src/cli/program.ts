/** The commands and their flags. */
import { Command, Option } from "@commander-js/extra-typings";
import { egressOfWords } from "../config/load.ts";
import { type SettingName, settings } from "../config/schema.ts";
import type { ChatOptions } from "./chat.ts";
import { type InitRequest, templateNames } from "./init-templates.ts";
import { addLifecycle, type LifecycleRequest, withShellArguments } from "./lifecycle-commands.ts";
import type { MetricsRequest } from "./metrics.ts";
import type { SyncRequest } from "./sync.ts";

/** What the user asked for. */
export type Request =
  | ({ command: "chat" } & ChatOptions)
  | { command: "doctor"; flags: ChatOptions["flags"] }
  | { command: "usage"; flags: ChatOptions["flags"]; session: string | undefined; json: boolean }
  | { command: "audit"; flags: ChatOptions["flags"]; session: string | undefined; json: boolean; follow: boolean }
  | ({ command: "metrics"; flags: ChatOptions["flags"] } & MetricsRequest)
  | ({ command: "sync"; flags: ChatOptions["flags"] } & SyncRequest)
  | (LifecycleRequest & { flags: ChatOptions["flags"] })
  | ({ command: "init" } & InitRequest)
  | { command: "demo" };

export interface Parsed {
  request: Request;
  verbose: boolean;
}

/** Reads the arguments. Throws commander's errors, which carry the words and the nearest known flag. */
export function parseArguments(argv: readonly string[], version: string): Parsed | undefined {
  let request: Request | undefined;
  const program = buildProgram(version, (asked) => {
    request = asked;
  });
  program.parse(argv, { from: "user" });
  if (request && "argv" in request) request = { ...request, ...withShellArguments(request, argv) };
  return request && { request, verbose: program.opts().verbose === true };
}

const describe = (name: SettingName) => settings[name].description ?? "";

/** The command tree; docs/cli.md is generated from it. */
export function buildProgram(version: string, onRequest: (request: Request) => void) {
  const program = mainCommand(version);
  program.action((options) => {
    onRequest({
      ...{ command: "chat", flags: flagsOf(options), session: options.session, print: options.print },
      ...{ format: options.output, detach: options.detach === true },
    });
  });
  program
    .command("doctor")
    .description("say what is there, what is missing and what to do, and where each setting comes from")
    .action(() => onRequest({ command: "doctor", flags: flagsOf(program.opts()) }));
  program
    .command("usage [session]")
    .description("what a session has used and spent; all sessions when none is named")
    .option("--json", "one JSON object a line")
    .action((session, { json = false }) =>
      onRequest({ command: "usage", flags: flagsOf(program.opts()), session, json }),
    );
  program
    .command("audit [session]")
    .description(
      "every request of a session to the proxy, and how it was decided; the latest session when none is named",
    )
    .option("-f, --follow", "go on with what comes")
    .option("--json", "the lines of the log as they are")
    .action((session, { json = false, follow = false }) =>
      onRequest({ command: "audit", flags: flagsOf(program.opts()), session, json, follow }),
    );
  addMetrics(program, (asked) => onRequest({ ...asked, flags: flagsOf(program.opts()) }));
  addSync(program, (asked) => onRequest({ ...asked, flags: flagsOf(program.opts()) }));
  addLifecycle(program, (asked) => {
    const { output: format, detach = false } = program.opts();
    const completed = asked.command === "attach" ? { ...asked, format, detach } : asked;
    onRequest({ ...completed, flags: flagsOf(program.opts()) });
  });
  program
    .command("init [folder]")
    .description(
      "put an editable copy of what agents are told (CLAUDE.md, skills, scripts) into a project: .claude/ and modal-sb.json; nothing that is there is replaced unasked",
    )
    .addOption(
      new Option("--template <name>", "trainings, a coding agent on a repository, or only the facts about the sandbox")
        .choices(templateNames)
        .default("ml" as const),
    )
    .option("-f, --force", "replace files that are there and differ; modal-sb.json is never replaced")
    .action((folder, { template, force = false }) => onRequest({ command: "init", folder, template, force }));
  program
    .command("demo")
    .description("run the whole system without an account, with a scripted model in place of the API")
    .action(() => onRequest({ command: "demo" }));
  return program;
}

/** The flags that every command has. */
function mainCommand(version: string) {
  return new Command("modal-sb")
    .description("Run a Claude agent in a sandbox that holds none of your credentials.")
    .version(version, "-V, --version")
    .option(
      "-p, --print [message]",
      "one turn: the answer on stdout, everything else on stderr; without a message, it is read from stdin",
    )
    .addOption(
      new Option("--output <format>", "what comes on stdout")
        .choices(["text", "stream-json"] as const)
        .default("text" as const),
    )
    .option("-s, --session <name>", "the session to continue or to begin; without it, a new one")
    .option("--model <id>", describe("model"))
    .option("--max-turns <n>", describe("maxTurns"))
    .option("--instructions <folder>", describe("instructions"))
    .option("--key-file <path>", describe("keyFile"))
    .option("--key-command <command>", describe("keyCommand"))
    .option("--budget-usd <usd>", describe("budgetUsd"))
    .option(
      "--github <owner/name[:write]>",
      "repository that the sandbox may read, or with :write also push to; can be repeated",
      collect,
    )
    .option("--huggingface", "let the sandbox read what your Hugging Face token may read")
    .option(
      "--metrics <destination>",
      "who gets the metrics of trainings: a trackio Space as owner/name, or owner/name:create to make it when it is missing; or the address of a trackio server",
    )
    .option("--anthropic-origin <origin>", describe("anthropicOrigin"))
    .option(
      "--allow-host <hostname>",
      "hostname that the sandbox may reach; can be repeated, and replaces the default list",
      collect,
    )
    .addOption(
      new Option("--dangerously-allow-all-hostnames", "no egress policy but for private addresses").conflicts(
        "allowHost",
      ),
    )
    .addOption(
      new Option("--egress <policy>", `${describe("egress")}: ml, none, open, or hostnames with commas`).conflicts([
        "allowHost",
        "dangerouslyAllowAllHostnames",
      ]),
    )
    .option("--on <provider>", describe("provider"))
    .option("--gpu <list>", describe("gpu"))
    .option("--cpu <cores>", describe("cpuCores"))
    .option("--region <list>", describe("regions"))
    .option("--max-wait <minutes>", describe("maxWaitMinutes"))
    .option(
      "--detach",
      "leave the sandboxes running at the end, where the provider can: modal-sb attach goes on; with -p, as soon as the agent has begun",
    )
    .option("--state-folder <folder>", describe("stateFolder"))
    .option("--verbose", "more about errors")
    .showSuggestionAfterError()
    .exitOverride();
}

type MetricsAsked = { command: "metrics" } & MetricsRequest;

function addMetrics(program: Pick<Command, "command">, onRequest: (asked: MetricsAsked) => void): void {
  program
    .command("metrics [session]")
    .description(
      "what a session's programs have logged with trackio: runs, latest values and curves; the latest session when none is named",
    )
    .option("--folder <path>", "any trackio folder of this machine, in place of a session")
    .option("--project <name>", "only this project; can be repeated", collect)
    .option("--run <name>", "only this run, by its name or id; can be repeated", collect)
    .option("--metric <name>", "only this metric, or all below it (eval for eval/loss); can be repeated", collect)
    .option("-f, --follow", "draw anew when something is logged, until it is interrupted")
    .option("--json", "one JSON object a run and line: its rows, steps, config and latest values")
    .action((session, { folder, project = [], run = [], metric = [], follow = false, json = false }) =>
      onRequest({
        ...{ command: "metrics", session, folder, follow, json },
        ...{ projects: project, runs: run, metrics: metric },
      }),
    );
}

type SyncAsked = { command: "sync" } & SyncRequest;

function addSync(program: Pick<Command, "command">, onRequest: (asked: SyncAsked) => void): void {
  program
    .command("sync <folder|session>")
    .description(
      "send the metrics of a trackio folder to a Space or to a trackio server, every row once; or what waits of a session that was left, to where --metrics says",
    )
    .option("--space <owner/name>", "a trackio Space of Hugging Face; the token is HF_TOKEN")
    .option("--create-space", "make the Space when it is missing, private, with a bucket for its metrics")
    .option("--public-space", "with --create-space: everybody may see it")
    .option("--server <address>", "a self-hosted trackio server; its token is TRACKIO_WRITE_TOKEN")
    .option("--once", "one look, then end; without it, until it is interrupted")
    .option("--media", "also send images, sounds and the like that rows name")
    .option("--interval <seconds>", "between two looks, 1 to 30", "10")
    .option("--max-mib-per-hour <n>", "no more than that leaves in an hour", "256")
    .action((folder, { space, server, once = false, media = false, interval, maxMibPerHour, ...flags }) =>
      onRequest({
        ...{ command: "sync", folder, space, server, once, media, maxMibPerHour },
        ...{ createSpace: flags.createSpace === true, publicSpace: flags.publicSpace === true },
        intervalSeconds: interval,
      }),
    );
}

type Options = ReturnType<ReturnType<typeof mainCommand>["opts"]>;

function flagsOf(options: Options): ChatOptions["flags"] {
  const { model, maxTurns, instructions, keyFile, keyCommand, anthropicOrigin, stateFolder, budgetUsd } = options;
  const { on: provider, gpu, cpu: cpuCores, region: regions, maxWait: maxWaitMinutes } = options;
  const { github, huggingface, metrics } = options;
  return {
    ...{ model, maxTurns, instructions, keyFile, keyCommand, anthropicOrigin, stateFolder, budgetUsd },
    ...{ provider, gpu, cpuCores, regions, maxWaitMinutes, egress: egressOf(options) },
    github: github && { repositories: Object.fromEntries(github.map(repositoryOf)) },
    huggingface: huggingface && {},
    metrics: metrics === undefined ? undefined : destinationOf(metrics),
  };
}

function egressOf({ egress, allowHost, dangerouslyAllowAllHostnames }: Options): unknown {
  if (dangerouslyAllowAllHostnames) return "dangerously-allow-all-hostnames";
  if (allowHost) return { allow: allowHost };
  return egress === undefined ? undefined : egressOfWords(egress);
}

/** "owner/name" is read, "owner/name:write" is write; what is wrong with it, the setting's own check says. */
function repositoryOf(word: string): [name: string, access: string] {
  const colon = word.lastIndexOf(":");
  return colon === -1 ? [word, "read"] : [word.slice(0, colon), word.slice(colon + 1)];
}

/** An address is a server; "owner/name:create" is a private Space that may be made. */
function destinationOf(word: string): object {
  if (word.includes("://")) return { server: word };
  const [, name = word, create] = /^(.*?)(:create)?$/.exec(word) ?? [];
  return { spaces: [name], ...(create && { create: "private" }) };
}

function collect(value: string, earlier: string[] | undefined): string[] {
  return [...(earlier ?? []), value];
}
