/**
 * What this installation was about to make, written down before it is made: what a crash leaves can be found again, and a loop
 * that makes sandboxes without end is stopped, also when it starts anew each time.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { messageOf, SandboxError } from "../../errors.ts";

const hourMs = 3_600_000;
/** older lines are dropped when the file is longer than this */
const maxBytes = 1024 * 1024;

interface Intent {
  name: string;
  role: string;
  gpu?: string | undefined;
}

interface Line {
  at: string;
  name: string;
  id?: string;
  /** Modal had no machine: the intent before it has cost nothing */
  refused?: string;
}

export interface Creations {
  /** Writes the intent. Throws a SandboxError when there were too many in the last hour, or it cannot be written. */
  intend(intent: Intent): void;
  /** Writes that Modal had no machine; never throws. */
  refused(name: string): void;
  /** Writes what became of it; never throws, for it has been made. */
  made(name: string, id: string): void;
}

/** The file `<stateFolder>/modal/creations.ndjson`, of all processes of this installation. */
export function openCreations(stateFolder: string, perHour: number): Creations {
  const path = join(stateFolder, "modal/creations.ndjson");
  return {
    intend({ name, role, gpu }) {
      const recent = intentsSince(path, Date.now() - hourMs);
      if (recent >= perHour) {
        throw new SandboxError(
          `modal-sb refuses to make a ${ordinal(recent + 1)} sandbox within an hour: a loop that makes sandboxes would burn money`,
          { hint: "see what runs with `modal-sb ls`, end it with `modal-sb gc`; creationsPerHour raises the limit" },
        );
      }
      append(path, { at: new Date().toISOString(), name, role, ...(gpu !== undefined && { gpu }) });
    },
    refused: (name) => appendIfPossible(path, { at: new Date().toISOString(), name, refused: "no machine" }),
    made: (name, id) => appendIfPossible(path, { at: new Date().toISOString(), name, id }),
  };
}

/** What is not written down here counts against the user, and not against Modal: the intent is there. */
function appendIfPossible(path: string, line: Record<string, string>): void {
  try {
    append(path, line);
  } catch {
    // and Modal has the sandbox's tags
  }
}

function intentsSince(path: string, sinceMs: number): number {
  const recent = linesOf(path).filter((line) => Date.parse(line.at) > sinceMs);
  const refused = recent.filter((line) => line.refused !== undefined).length;
  return recent.filter((line) => line.id === undefined).length - 2 * refused;
}

function linesOf(path: string): Line[] {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw unwritable(path, error);
  }
  const lines = text.split("\n").flatMap((line): Line[] => {
    try {
      return line === "" ? [] : [JSON.parse(line) as Line];
    } catch {
      // torn by a crash
      return [];
    }
  });
  if (text.length > maxBytes) keepRecent(path, lines);
  return lines;
}

function keepRecent(path: string, lines: readonly Line[]): void {
  const recent = lines.filter((line) => Date.parse(line.at) > Date.now() - 24 * hourMs);
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, recent.map((line) => `${JSON.stringify(line)}\n`).join(""), { mode: 0o600, flush: true });
  renameSync(draft, path);
}

/** One write of a whole line, on the disk when this returns. */
function append(path: string, line: Record<string, string>): void {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const file = openSync(path, "a", 0o600);
    try {
      writeSync(file, `${JSON.stringify(line)}\n`);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
  } catch (error) {
    throw unwritable(path, error);
  }
}

function unwritable(path: string, error: unknown): SandboxError {
  return new SandboxError(`Cannot write down what is made in "${path}": ${messageOf(error)}`, {
    hint: "choose another place with XDG_STATE_HOME or the stateFolder setting",
    cause: error,
  });
}

function ordinal(number: number): string {
  const ending = number % 100 >= 11 && number % 100 <= 13 ? "th" : (["th", "st", "nd", "rd"][number % 10] ?? "th");
  return `${number}${ending}`;
}
