/**
 * The demo's agent: looks around, tries to get out, writes a training loop, runs it, and reports what it saw.
 * Whatever it says of files, refusals, keys and numbers is read from the results of its tools.
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
  `Look around, check that you can read neither ${path} nor ${url}, then write a small training loop and run it.`;

/** A second turn, which can be answered only from the first. */
export const followUpPrompt = "What was the final loss, and in which file is the loop?";

export function training(): Script {
  return script(
    [
      { when: /final loss/i, replies: [recall] },
      { when: /training/i, replies: [lookAround, tryToGetOut, showKey, writeProgram, runProgram, report] },
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

function writeProgram(request: ModelRequest): Reply {
  const [, key] = /ANTHROPIC_API_KEY=(\S+)/.exec(resultsIn(request)) ?? [];
  const seen =
    key === undefined ? "I see no API key." : `${key} is all I have, and the proxy decides what it is good for.`;
  return [
    text(`${seen} Now the training loop.`),
    toolUse("Write", { file_path: programPath(request), content: trainingProgram }),
  ];
}

function runProgram(request: ModelRequest): Reply {
  return bash(`python3 ${quote(programPath(request))}`);
}

function report(request: ModelRequest): Reply {
  const losses = lossesIn(resultsIn(request));
  const [first, last] = [losses.at(0), losses.at(-1)];
  if (first === undefined || last === undefined) return text(`The training failed: ${resultsIn(request)}`);
  return text(
    `The training ran: its loss fell from ${first.loss} in epoch ${first.epoch} to ${last.loss} in epoch ${last.epoch}.`,
  );
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
  const reason = outputOf(call).trim().split("\n").at(-1);
  return call?.result?.isError ? `${what} is out of reach: ${reason}` : `${what} CAN BE REACHED, and must not be.`;
}

function callsOf(request: ModelRequest, name: string): ToolCall[] {
  return request.toolCalls.filter((call) => call.name === name);
}

function outputOf(call: ToolCall | undefined): string {
  return call?.result?.text ?? "";
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
