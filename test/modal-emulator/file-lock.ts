/** One process at a time, known by a file that names its holder; the lock of a dead one is taken over. */
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { isAlive } from "./is-alive.ts";

const held = new Map<string, Promise<unknown>>();

export async function withFileLock<Value>(path: string, work: () => Promise<Value>): Promise<Value> {
  const before = held.get(path) ?? Promise.resolve();
  const turn = before.then(() => across(path, work));
  held.set(
    path,
    turn.catch(() => {}),
  );
  return turn;
}

async function across<Value>(path: string, work: () => Promise<Value>): Promise<Value> {
  while (!tryLock(path)) await new Promise((resolve) => setTimeout(resolve, 100));
  try {
    return await work();
  } finally {
    rmSync(path, { force: true });
  }
}

function tryLock(path: string): boolean {
  const mine = `${path}.${process.pid}`;
  writeFileSync(mine, String(process.pid));
  try {
    linkSync(mine, path);
    return true;
  } catch {
    if (!alive(path)) takeAway(path);
    return false;
  } finally {
    rmSync(mine, { force: true });
  }
}

/** Of a dead holder; by a rename, so that of two who saw it dead one takes it and nobody takes the next holder's. */
function takeAway(path: string): void {
  const taken = `${path}.dead-${process.pid}`;
  try {
    renameSync(path, taken);
  } catch {
    return;
  }
  if (alive(taken)) linkBack(taken, path);
  rmSync(taken, { force: true });
}

function linkBack(taken: string, path: string): void {
  try {
    linkSync(taken, path);
  } catch {
    // a third one has the lock: the draft folders are each process's own, so the worst is that a layer is built twice
  }
}

function alive(path: string): boolean {
  try {
    return isAlive(Number(readFileSync(path, "utf8")));
  } catch {
    // released meanwhile is as good as alive: the next try will have it
    return true;
  }
}
