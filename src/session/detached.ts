/** Which sessions were left running on purpose, and until when: kept on this machine, beside what names their conversation. */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { messageOf, SandboxError } from "../errors.ts";
import { checkSessionName } from "./session-file.ts";

const detachedSchema = z.object({
  /** when the last of its sandboxes is over; from then on whatever still runs is an orphan */
  until: z.iso.datetime({ offset: true }),
  since: z.iso.datetime({ offset: true }),
  /** ids of the sandboxes that were left */
  sandboxes: z.array(z.string()),
});

export type Detached = z.infer<typeof detachedSchema>;

/** undefined: the session was not left. Throws a SandboxError when nobody can tell: its sandboxes may be wanted. */
export function readDetached(stateFolder: string, name: string): Detached | undefined {
  const path = pathOf(stateFolder, name);
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw damaged(path, error);
  }
  try {
    return detachedSchema.parse(JSON.parse(text));
  } catch (error) {
    throw damaged(path, error);
  }
}

/** Before the process that leaves the session ends. Throws a SandboxError when it cannot be written. */
export function writeDetached(stateFolder: string, name: string, detached: Detached): void {
  const path = pathOf(stateFolder, name);
  try {
    writeFileSync(`${path}.new`, JSON.stringify(detached), { mode: 0o600, flush: true });
    renameSync(`${path}.new`, path);
  } catch (error) {
    throw new SandboxError(`Cannot write "${path}": ${messageOf(error)}`, { cause: error });
  }
}

/** When somebody has taken the session over, or ended it. */
export function clearDetached(stateFolder: string, name: string): void {
  rmSync(pathOf(stateFolder, name), { force: true });
}

function damaged(path: string, cause: unknown): SandboxError {
  return new SandboxError(`Cannot read "${path}", which says until when the session was left running`, {
    hint: `remove it when nothing of the session is wanted any more: rm ${path}`,
    cause,
  });
}

function pathOf(stateFolder: string, name: string): string {
  checkSessionName(name);
  return join(stateFolder, "sessions", `${name}.detached.json`);
}
