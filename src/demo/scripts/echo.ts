/**
 * Says what it was told, unless that begins with a command, by which a test steers the model from the user's side:
 *
 *     !bash <command>                        runs it with the Bash tool, then says its output
 *     !tool <Name> <json>                    uses any tool, then says its output
 *     !error <status> [retry-after]          refuses every request of the turn
 *     !error-once <status> [retry-after]     refuses the first request only
 *     !die [blocks]                          dies in the first answer, after that many whole blocks (0), then recovers
 *     !hang                                  streams one word and then nothing, for ever
 *     !slow <n> <ms>                         n pieces of text, so long apart
 *     !many <n>                              n pieces of text at once
 *     !long <bytes>                          a text of exactly that size
 *     !raw <json string>                     the text is that string, e.g. "\u001b[2J"
 */
import type { ModelRequest } from "../model-request.ts";
import { type Block, deltas, dieMidStream, hang, type Reply, refuse, type Script, text, toolUse } from "../script.ts";

/** Whether this is the turn's first request; false when claude repeats it. */
type IsFirst = () => boolean;
type Command = (argument: string, request: ModelRequest, isFirst: IsFirst) => Reply;

const maxOutputLength = 2000;
const pieceBytes = 1000;

const commands: Readonly<Record<string, Command>> = {
  "!bash": (command, request) => useTool(request, toolUse("Bash", { command })),
  "!tool": (argument, request) => {
    const [name, json] = firstWord(argument);
    return useTool(request, toolUse(name, JSON.parse(json)));
  },
  "!error": (argument) => refusal(argument),
  "!error-once": (argument, _, isFirst) => (isFirst() ? refusal(argument) : text("recovered")),
  "!die": (argument, request, isFirst) => {
    if (request.step > 0 || !isFirst()) return text("recovered");
    const afterBlocks = Number(argument);
    const whole = Array.from({ length: afterBlocks }, (_, index) => text(`block ${index + 1} `));
    return dieMidStream({ afterBlocks }, ...whole, text("lost words"));
  },
  "!hang": () => hang(text("waiting")),
  "!slow": (argument) => {
    const [count, deltaMs] = numbers(argument);
    return ticks(count, deltaMs);
  },
  "!many": (argument) => ticks(Number(argument)),
  "!long": (argument) => {
    const bytes = Number(argument);
    const pieces = Array.from({ length: Math.ceil(bytes / pieceBytes) }, () => "0123456789".repeat(pieceBytes / 10));
    const rest = bytes % pieceBytes;
    return deltas(rest === 0 ? pieces : [...pieces.slice(1), "0123456789".repeat(pieceBytes / 10).slice(0, rest)]);
  },
  "!raw": (argument) => text(JSON.parse(argument)),
};

/** Each script remembers by itself which turns it has seen, for the commands that fail once. */
export function echo(): Script {
  const seen = new Set<string>();
  return (request) => {
    const [name, argument] = firstWord(request.userText);
    const command = commands[name];
    if (command === undefined) return text(`turn ${request.turnCount}: You said: ${request.userText}`);
    return command(argument, request, () => {
      const turn = `${request.conversation} ${request.turnCount}`;
      const isFirst = !seen.has(turn);
      seen.add(turn);
      return isFirst;
    });
  };
}

function useTool(request: ModelRequest, use: Block): Reply {
  if (request.step === 0) return use;
  const output = request.toolResults.map((result) => result.text).join("\n");
  return text(output.slice(0, maxOutputLength));
}

function refusal(argument: string): Reply {
  const [status, retryAfter] = numbers(argument);
  return refuse(status, retryAfter === undefined ? {} : { retryAfter });
}

function ticks(count: number, deltaMs?: number): Block {
  return deltas(
    Array.from({ length: count }, (_, index) => `tick ${index + 1}\n`),
    deltaMs,
  );
}

function firstWord(line: string): [word: string, rest: string] {
  const [, word = "", rest = ""] = /^(\S*)\s*([\s\S]*)$/.exec(line) ?? [];
  return [word, rest];
}

function numbers(argument: string): [first: number, second: number | undefined] {
  const [first, second] = argument.split(/\s+/).map(Number);
  return [first ?? Number.NaN, second];
}
