/** The conversation with a person at a terminal. Ctrl-C interrupts the turn, Ctrl-D leaves. */
import { createInterface } from "node:readline";
import { exitCodes } from "../errors.ts";
import type { Session } from "../session/contract.ts";
import type { Output } from "./output.ts";

const help = `/help          this text
/model <id>    another model, from the next message on
/exit          leave; also Ctrl-D
other /words   go to claude: /compact, /clear, /context, skills
Ctrl-C         interrupts the turn; twice kills the sandbox, and the conversation is kept
A pasted text of several lines is one message.`;

export interface ReplParts {
  /** sends a message and shows what follows */
  runTurn: (text: string) => Promise<unknown>;
  /** shown above each prompt */
  statusLine: () => Promise<string | undefined>;
  /** the turn that was running already; undefined: none */
  inherited: Promise<unknown> | undefined;
}

/** Runs until the user leaves; the exit code. */
export async function runRepl(
  session: Session,
  output: Output,
  { runTurn, statusLine, inherited }: ReplParts,
): Promise<number> {
  const history: string[] = [];
  // between a turn and the next prompt Ctrl-C means nothing, and must not end us
  process.on("SIGINT", () => {});
  if (inherited) await untilInterruptedTwice(session, output, Promise.race([inherited, failureOf(session)]));
  for (;;) {
    const status = await statusLine();
    if (status !== undefined) output.note(output.dim(status));
    const line = await Promise.race([readMessage(history), failureOf(session)]);
    if (line === "leave") return exitCodes.success;
    if (line === "interrupted") return exitCodes.interrupted;
    const [command = "", argument] = line.text.trim().split(/\s+/, 2);
    if (command === "") continue;
    if (command === "/exit" || command === "/quit") return exitCodes.success;
    if (command === "/help") output.note(help);
    else if (command === "/model") {
      if (argument) session.setModel(argument);
      else output.note("usage: /model <id>");
    } else {
      await untilInterruptedTwice(session, output, runTurn(line.text));
    }
  }
}

type Read = { text: string } | "leave" | "interrupted";

/** One message. The terminal is in line mode while no message is being read, so that Ctrl-C is a signal then. */
function readMessage(history: string[]): Promise<Read> {
  const reader = createInterface({
    input: process.stdin,
    output: process.stderr,
    prompt: "› ",
    history,
    terminal: true,
  });
  const lines: string[] = [];
  let interrupts = 0;
  return new Promise((resolve) => {
    reader.on("line", (line) => {
      lines.push(line);
      interrupts = 0;
      // the lines of one paste come at once
      if (lines.length === 1) setImmediate(() => reader.close());
    });
    reader.on("history", (entries) => history.splice(0, history.length, ...entries));
    reader.on("SIGINT", () => {
      interrupts += 1;
      if (interrupts > 1 && reader.line === "") {
        resolve("interrupted");
        reader.close();
        return;
      }
      process.stderr.write(reader.line === "" ? "\n(Ctrl-C again or Ctrl-D leaves)\n" : "\n");
      reader.write(null, { ctrl: true, name: "e" });
      reader.write(null, { ctrl: true, name: "u" });
      reader.prompt();
    });
    reader.on("close", () => {
      if (lines.length === 0) process.stderr.write("\n");
      resolve(lines.length > 0 ? { text: lines.join("\n") } : "leave");
    });
    reader.prompt();
  });
}

/** Rejects when the session cannot start: nobody should go on typing then. */
async function failureOf(session: Session): Promise<never> {
  await session.ready;
  return await new Promise<never>(() => {});
}

async function untilInterruptedTwice(session: Session, output: Output, turn: Promise<unknown>): Promise<void> {
  let interrupts = 0;
  const onInterrupt = () => {
    interrupts += 1;
    if (interrupts === 1) return session.interrupt();
    output.note("killing the sandbox …");
    void session.kill();
  };
  process.on("SIGINT", onInterrupt);
  try {
    await turn;
  } finally {
    process.off("SIGINT", onInterrupt);
  }
}
