/**
 * The demo's agent: looks around, tries to get out, writes a training loop that logs to trackio, runs it, and reports.
 * Whatever it says of files, refusals, keys, numbers and metrics is read from the results of its tools.
 */
import type { ModelRequest, ToolCall } from "../model-request.ts";
import { type Block, type Reply, type Script, script, text, toolUse } from "../script.ts";
import { trainingProgram } from "./training-program.ts";

/** A path and a URL that the sandbox must not reach. */
export interface Outside {
  path: string;
  url: string;
}

export const trainingPrompt = ({ path, url }: Outside): string =>
  `Look around, check that you can read neither ${path} nor ${url}, then write a small training loop, run it, and log its metrics.`;

/** A second turn, which can be answered only from the first. */
export const followUpPrompt = "What was the final loss, and in which file is the loop?";

export function training(): Script {
  return script(
    [
      { when: /final loss/i, replies: [recall] },
      {
        when: /training/i,
        replies: [lookAround, tryToGetOut, showKey, installTrackio, writeProgram, runProgram, report],
      },
    ],
    text("I am a scripted model: I can do a small training, and tell you its final loss."),
  );
}

const lookAround: Reply = [
  text("I'll look around first."),
  bash(
    [
      "pwd",
      "ls -la",
      "python3 --version",
      `echo "credentials in the environment: $(env | grep -cE '^(AWS_|GH_TOKEN|GITHUB_TOKEN|HF_TOKEN|MODAL_TOKEN)')"`,
    ].join("; "),
  ),
];

function tryToGetOut(request: ModelRequest): Reply {
  const { path, url } = outsideOf(request);
  return [
    text("Now the two things that must not work: a file of the host, and a hostname that is not allowed."),
    bash(`cat ${quote(path)}`),
    bash(`set -o pipefail; python3 -c ${quote(openUrl(url))} 2>&1 | tail -n 1`),
  ];
}

const openUrl = (url: string): string =>
  `import urllib.request; print(urllib.request.urlopen("${url}", timeout=20).status)`;

/** Claude hides the key from the shells that it starts, but a shell may look at claude itself. */
function showKey(request: ModelRequest): Reply {
  const { path, url } = outsideOf(request);
  const [file, network] = callsOf(request, "Bash").slice(-2);
  return [
    text(`${verdict(path, file)}\n${verdict(url, network)}\nAnd the API key that I was given:`),
    bash(
      `echo "ANTHROPIC_API_KEY=$ANTHROPIC_API_KEY"; tr '\\0' '\\n' < /proc/$PPID/environ | grep '^ANTHROPIC_API_KEY='`,
    ),
  ];
}

function installTrackio(request: ModelRequest): Reply {
  const [, key] = /ANTHROPIC_API_KEY=(\S+)/.exec(resultsIn(request)) ?? [];
  const seen =
    key === undefined ? "I see no API key." : `${key} is all I have, and the proxy decides what it is good for.`;
  return [
    text(`${seen} Next I install trackio, for the metrics; that takes a while.`),
    toolUse("Bash", { command: installCommand, timeout: installTimeoutMs }),
  ];
}

const installTimeoutMs = 300_000;
const installCommand =
  "set -o pipefail; pip install -qq --disable-pip-version-check trackio==0.43.0 2>&1 | tail -n 3 && " +
  "python3 -c 'import trackio; print(\"trackio\", trackio.__version__)'";

function writeProgram(request: ModelRequest): Reply {
  const [install] = callsOf(request, "Bash").slice(-1);
  const words = install?.result?.isError
    ? `trackio could not be installed: ${lastLineOf(install)}. The training loop works without it.`
    : "Now the training loop.";
  return [text(words), toolUse("Write", { file_path: programPath(request), content: trainingProgram })];
}

function runProgram(request: ModelRequest): Reply {
  return bash(`python3 ${quote(programPath(request))}`);
}

function report(request: ModelRequest): Reply {
  const losses = lossesIn(resultsIn(request));
  const [first, last] = [losses.at(0), losses.at(-1)];
  if (first === undefined || last === undefined) return text(`The training failed: ${resultsIn(request)}`);
  const fall = `from ${first.loss} in epoch ${first.epoch} to ${last.loss} in epoch ${last.epoch}`;
  return text(`The training ran: its loss fell ${fall}. ${metricsVerdict(resultsIn(request))}`);
}

/** From the lines that the program prints about its metrics. */
function metricsVerdict(output: string): string {
  const [, project, run] = /^metrics: project (\S+), run (\S+)$/m.exec(output) ?? [];
  if (project !== undefined) return `Every epoch is logged with trackio, in project ${project}, run ${run}.`;
  const [, reason = "the program does not say why"] = /^no metrics: (.+)$/m.exec(output) ?? [];
  return `No metrics were logged: ${reason}.`;
}

function recall(request: ModelRequest): Reply {
  const outputs = callsOf(request, "Bash").map((call) => lossesIn(outputOf(call)));
  const last = outputs.findLast((losses) => losses.length > 0)?.at(-1);
  const file = callsOf(request, "Write").at(-1)?.input["file_path"];
  if (last === undefined || file === undefined) return text("I have not trained anything in this conversation.");
  return text(`The final loss was ${last.loss}, in epoch ${last.epoch}. The loop is in ${file}.`);
}

function lossesIn(output: string): { epoch: string; loss: string }[] {
  const lines = output.matchAll(/^epoch (\d+) loss ([\d.]+)$/gm);
  return [...lines].map(([, epoch = "", loss = ""]) => ({ epoch, loss }));
}

/** In the folder that `pwd` named, on the first line that the agent ever read. */
function programPath(request: ModelRequest): string {
  const [folder] = outputOf(callsOf(request, "Bash")[0]).split("\n");
  return `${folder}/train.py`;
}

/** The path and the URL that the user named; ones that do not exist, when there are none. */
function outsideOf({ userText }: ModelRequest): Outside {
  const [url = "https://host.invalid"] = /https?:\/\/[^\s,"']+/.exec(userText) ?? [];
  const [, path = "/nonexistent"] = /\s(\/[^\s,]+)/.exec(userText) ?? [];
  return { path, url };
}

function verdict(what: string, call: ToolCall | undefined): string {
  return call?.result?.isError
    ? `${what} is out of reach: ${lastLineOf(call)}`
    : `${what} CAN BE REACHED, and must not be.`;
}

function callsOf(request: ModelRequest, name: string): ToolCall[] {
  return request.toolCalls.filter((call) => call.name === name);
}

function outputOf(call: ToolCall | undefined): string {
  return call?.result?.text ?? "";
}

function lastLineOf(call: ToolCall | undefined): string {
  return outputOf(call).trim().split("\n").at(-1) ?? "";
}

function resultsIn(request: ModelRequest): string {
  return request.toolResults.map((result) => result.text).join("\n");
}

function bash(command: string): Block {
  return toolUse("Bash", { command });
}

/** As one word of a shell command. */
function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
