import { chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { BusyError, messageOf, SandboxError } from "../../errors.ts";
import type { Volume } from "../provider.ts";

const sqliteBusy = 5;

/**
 * Opens `<volumes>/<name>`, made when missing. The lock is SQLite's exclusive one on a file beside the content: the
 * kernel releases it when the process ends, however it ends, so that no stale lock can exist.
 * Throws a BusyError that names the holder, a SandboxError when the folder cannot be written.
 */
export function openVolume(volumes: string, name: string): Volume {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(name)) {
    throw new SandboxError(`Bad volume name "${name}"`, { hint: "use letters, digits, dots, dashes and underscores" });
  }
  const folder = join(volumes, name);
  const content = join(folder, "content");
  const holderPath = join(folder, "holder");
  const lock = takeLock(folder, name, holderPath);
  try {
    mkdirSync(content, { recursive: true, mode: 0o700 });
    writeFileSync(holderPath, String(process.pid));
  } catch (error) {
    lock.close();
    throw new SandboxError(`Cannot write to volume "${name}": ${messageOf(error)}`, { cause: error });
  }
  return {
    name,
    hostPath: content,
    [Symbol.asyncDispose]: async () => lock.close(),
  };
}

/** The volume without its lock; undefined when there is none. */
export function peekVolume(volumes: string, name: string): Volume | undefined {
  const hostPath = join(volumes, name, "content");
  return existsSync(hostPath) ? { name, hostPath, [Symbol.asyncDispose]: async () => {} } : undefined;
}

/** Gives a volume's content to the sandbox's user. Its name lies in a folder that no sandbox sees, so it is no link. */
export function giveFolder(path: string, uid: number, gid: number): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  if (process.getuid?.() === 0) chownSync(path, uid, gid);
}

function takeLock(folder: string, name: string, holderPath: string): DatabaseSync {
  let database: DatabaseSync | undefined;
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    database = new DatabaseSync(join(folder, "lock"), { timeout: 0 });
    database.exec("BEGIN EXCLUSIVE");
    return database;
  } catch (error) {
    database?.close();
    if ((error as { errcode?: number }).errcode === sqliteBusy) {
      throw new BusyError(`Volume "${name}" is in use by process ${holderOf(holderPath)}`, {
        hint: "wait for it to end, or choose another session name",
      });
    }
    throw new SandboxError(`Cannot open volume "${name}": ${messageOf(error)}`, {
      hint: `see that ${folder} can be written`,
      cause: error,
    });
  }
}

function holderOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // the holder has just opened it
    return "(unknown)";
  }
}
