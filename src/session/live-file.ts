/**
 * What another process needs to take over a session whose sandboxes outlive this one: that it may be running, and which
 * turns were. Kept on the host, because a turn's nonce is what the agent's other processes must not learn.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** A turn that has not ended for the process that sent it. */
export interface LiveTurn {
  turnId: string;
  nonce: string;
  text: string;
  /** number of the last event before it */
  after: number;
}

export interface LiveSession {
  startedAt: string;
  turns: LiveTurn[];
  /** ids of the agent's and the proxy's sandboxes, as soon as the agent has its grant; before that nothing can be taken over */
  sandboxes?: string[];
}

/** undefined: the session ended in peace, or never began. A damaged file counts as a session without turns. */
export function readLive(stateFolder: string, name: string): LiveSession | undefined {
  let text: string;
  try {
    text = readFileSync(pathOf(stateFolder, name), "utf8");
  } catch {
    return undefined;
  }
  try {
    return JSON.parse(text) as LiveSession;
  } catch {
    return { startedAt: "", turns: [] };
  }
}

export function writeLive(stateFolder: string, name: string, live: LiveSession): void {
  const path = pathOf(stateFolder, name);
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  writeFileSync(`${path}.new`, JSON.stringify(live), { mode: 0o600, flush: true });
  renameSync(`${path}.new`, path);
}

export function clearLive(stateFolder: string, name: string): void {
  rmSync(pathOf(stateFolder, name), { force: true });
}

function pathOf(stateFolder: string, name: string): string {
  return join(stateFolder, "sessions", `${name}.live`);
}
