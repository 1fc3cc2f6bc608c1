/** Session events as text for people. Pure; the strings come in without control characters. */
import type { SessionEvent } from "../session/contract.ts";

/** `data` is the agent's own text, `note` is about it. */
export type Rendered = { data: string } | { note: string; tone: "plain" | "error" };

const plainNotices: ReadonlySet<string> = new Set(["session_resumed", "credential_replaced", "progress"]);
const maxToolLine = 120;
const maxOutputLines = 5;

export function render(event: SessionEvent): Rendered[] {
  switch (event.type) {
    case "text_delta":
      return [{ data: event.text }];
    case "text_discarded":
      return [plain("the text above is void: the request is being repeated")];
    case "tool_started":
      return [plain(`● ${event.name} ${summaryOf(event.input)}`)];
    case "tool_ended":
      return outputLines(event.output, event.isError);
    case "turn_queued":
      return event.position === 0 ? [] : [plain(`queued: ${event.position} before this message`)];
    case "status":
      return [{ note: event.message, tone: event.kind === "crash" ? "error" : "plain" }];
    case "host_notice":
      if (event.kind === "sandbox_started" || event.kind === "sandbox_failed") return [];
      return [{ note: event.message, tone: plainNotices.has(event.kind) ? "plain" : "error" }];
    case "protocol_error":
      return [{ note: `The agent did not understand a message: ${event.reason}`, tone: "error" }];
    case "END_TURN":
      return event.error ? [{ note: endWords(event.result, event.error.message), tone: "error" }] : [];
    case "hello":
    case "metrics":
    case "text_ended":
    case "turn_started":
    case "usage":
      return [];
  }
}

function plain(note: string): Rendered {
  return { note, tone: "plain" };
}

function endWords(result: string, message: string): string {
  if (result === "interrupted") return "interrupted";
  if (result === "max_turns") return `The turn took too many steps: ${message}`;
  return `The turn failed: ${message}`;
}

/** The one field of a tool's input that says what it does, else all of it, on one line. */
function summaryOf(input: string): string {
  let words = input;
  try {
    const fields = JSON.parse(input) as Record<string, unknown>;
    const telling = ["command", "file_path", "pattern", "skill", "path"].find(
      (name) => typeof fields[name] === "string",
    );
    if (telling) words = String(fields[telling]);
  } catch {
    // cut in the middle: shown as it is
  }
  return oneLine(words);
}

function outputLines(output: string, isError: boolean): Rendered[] {
  const lines = output.trimEnd().split("\n");
  if (lines.length === 1 && lines[0] === "") return [];
  const shown = lines.slice(0, maxOutputLines).map((line, index) => `${index === 0 ? "  ⎿ " : "    "}${oneLine(line)}`);
  if (lines.length > maxOutputLines) shown.push(`    … ${lines.length - maxOutputLines} more lines`);
  return [{ note: shown.join("\n"), tone: isError ? "error" : "plain" }];
}

function oneLine(text: string): string {
  const line = text.replace(/\s*\n\s*/g, " ⏎ ").trimEnd();
  return line.length <= maxToolLine ? line : `${line.slice(0, maxToolLine)}…`;
}
