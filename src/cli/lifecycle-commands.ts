/** The flags of the commands for sessions that run. */
import { type Command, InvalidArgumentError, Option } from "@commander-js/extra-typings";
import type { AttachRequest } from "./attach.ts";
import type { CollectRequest } from "./gc.ts";
import type { LogsRequest } from "./logs.ts";
import type { ListRequest } from "./ls.ts";
import type { ShellRequest } from "./shell.ts";
import type { StopRequest } from "./stop.ts";
import type { TransferRequest } from "./transfer.ts";

export type LifecycleRequest =
  | ({ command: "ls" } & ListRequest)
  | ({ command: "attach" } & AttachRequest)
  | ({ command: "stop" } & StopRequest)
  | ({ command: "gc" } & CollectRequest)
  | ({ command: "logs" } & LogsRequest)
  | ({ command: "shell" } & ShellRequest & { operands: string[] })
  | ({ command: "pull" | "push" } & TransferRequest);

const maxOrphans = 20;

/** Declares them; `onRequest` gets what was asked, for `attach` without the flags of the whole program. */
export function addLifecycle(program: Pick<Command, "command">, onRequest: (asked: LifecycleRequest) => void): void {
  program
    .command("ls")
    .description("running sandboxes by session: age, GPU, what they cost, and what holds them")
    .option("--json", "one JSON object a line")
    .option("-a, --all", "also sessions that do not run")
    .action(({ json = false, all = false }) => onRequest({ command: "ls", json, all }));
  program
    .command("attach [session]")
    .description("go on with a session that was left running; the only one when none is named")
    .action((session) => onRequest({ command: "attach", session, format: "text", detach: false }));
  program
    .command("stop [session]")
    .description(
      "end a session's sandboxes: the agent, after it has saved its work, then the others; the conversation is kept",
    )
    .option("-a, --all", "every running session")
    .action((session, { all = false }) => onRequest({ command: "stop", session, all }));
  program
    .command("gc")
    .description("end sandboxes that no process has any more and that were not left on purpose, after a question")
    .option("-y, --yes", "without the question")
    .option("--max <n>", "no more than so many at once", positiveNumber, maxOrphans)
    .action(({ yes = false, max }) => onRequest({ command: "gc", yes, max }));
  program
    .command("logs [session]")
    .description("the last output of a session's sandboxes, and where to find more")
    .addOption(new Option("--role <role>", "only this one").choices(["agent", "proxy", "syncer"] as const))
    .action((session, { role }) => onRequest({ command: "logs", session, role }));
  program
    .command("shell [session] [command...]")
    .usage("[options] [session] [-- command...]")
    .description(
      "a shell in the agent's sandbox, or one command behind --; at a terminal plain lines of text, so that the agent cannot steer it",
    )
    .action((session, command) =>
      onRequest({
        command: "shell",
        session,
        argv: command,
        operands: session === undefined ? [] : [session, ...command],
      }),
    );
  addTransfer(program, onRequest);
}

function addTransfer(program: Pick<Command, "command">, onRequest: (asked: LifecycleRequest) => void): void {
  program
    .command("pull <session> <path> [to]")
    .description(
      "copy a file or folder out of the agent's sandbox, into the working folder when no target is named; a slash at the end of a folder means its content",
    )
    .option("-f, --force", "replace files that are there and differ")
    .action((session, from, to, { force = false }) => onRequest({ command: "pull", session, from, to, force }));
  program
    .command("push <session> <path> [to]")
    .description(
      "copy a file or folder into the agent's sandbox, to /app when no target is named; a slash at the end of a folder means its content",
    )
    .option("-f, --force", "replace files that are there and differ")
    .action((session, from, to, { force = false }) => onRequest({ command: "push", session, from, to, force }));
}

/** Commander drops the `--`: what stood behind it is the command, and no session. */
export function withShellArguments(
  { operands }: { operands: readonly string[] },
  argv: readonly string[],
): { session: string | undefined; argv: string[] } {
  const dashes = argv.indexOf("--");
  const behind = dashes === -1 ? undefined : argv.slice(dashes + 1);
  const [session, ...rest] = behind ? operands.slice(0, operands.length - behind.length) : operands;
  return { session, argv: [...rest, ...(behind ?? [])] };
}

function positiveNumber(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= 10_000) return value;
  throw new InvalidArgumentError("It must be a whole number from 1 to 10000.");
}
