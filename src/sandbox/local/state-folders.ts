/** Where the local provider keeps things on the host, and how what a dead process left is found and removed. */
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { messageOf, SandboxError } from "../../errors.ts";
import type { Limits, SandboxRecord } from "../provider.ts";
import { killQuietly, processesWithVariable, startTime } from "./process-table.ts";

export interface StateFolders {
  volumes: string;
  /** sockets and small files of running sandboxes: short paths, for a unix socket's has 107 bytes at most */
  running: string;
  /** their /tmp folders */
  scratch: string;
  cache: string;
}

/** a folder that still has no record after so long has lost its maker before it could write one */
const unfinishedMs = 60_000;

/** What it takes to run a program in a sandbox of another process, and is no secret. */
export interface EntryRecord {
  network: "own" | "host";
  limits: Limits;
  workingDirectory: string;
  ports: readonly number[];
}

interface OwnedRecord extends SandboxRecord {
  ownerPid: number;
  ownerStartTime: string;
  scratch: string;
  entry: EntryRecord;
}

export interface FoundRecord {
  folder: string;
  record: OwnedRecord;
  /** whether its maker lives */
  alive: boolean;
}

/** Makes the folders. A SandboxError says which one cannot be written. */
export function openStateFolders(stateFolder: string, runtimeFolder: string | undefined): StateFolders {
  const fromRoot = process.getuid?.() === 0;
  const folders = {
    volumes: join(stateFolder, "volumes"),
    running: fromRoot ? "/run/modal-sb" : join(runtimeFolder ?? tmpdir(), `modal-sb-${process.getuid?.()}`),
    scratch: join(stateFolder, "scratch"),
    cache: join(stateFolder, "cache"),
  };
  for (const folder of Object.values(folders)) makeFolder(folder);
  const running = lstatSync(folders.running);
  if (!running.isDirectory() || running.uid !== process.getuid?.()) {
    throw new SandboxError(`Cannot use "${folders.running}": it belongs to another user`, {
      hint: "set XDG_RUNTIME_DIR to a folder of your own",
    });
  }
  // root's sandboxes run as another user, which must be able to walk through
  chmodSync(folders.running, fromRoot ? 0o711 : 0o700);
  return folders;
}

/** The folder of one running sandbox, with the record by which other processes find it. */
export function writeRecord(folder: string, record: SandboxRecord, entry: EntryRecord, scratch: string): void {
  const owned: OwnedRecord = {
    ...record,
    entry,
    ownerPid: process.pid,
    ownerStartTime: startTime(process.pid) ?? "",
    scratch,
  };
  writeFileSync(join(folder, "record.json"), JSON.stringify(owned), { mode: 0o600 });
}

/** Records of sandboxes whose makers live. With another state folder, it is another installation of the same user. */
export function liveRecords(folders: StateFolders): SandboxRecord[] {
  return readRecords(folders)
    .filter(({ record, alive }) => alive && isOurs(folders, record))
    .map(({ record: { ownerStartTime, scratch, entry, ...record } }) => record);
}

/** The record of a running sandbox of this state folder; undefined when it has ended or its maker is gone. */
export function findRecord(folders: StateFolders, id: string): FoundRecord | undefined {
  return readRecords(folders).find(({ record, alive }) => alive && record.id === id && isOurs(folders, record));
}

/**
 * Removes files of sandboxes whose makers are gone. Their processes ended with the makers, but for one that bubblewrap
 * may leave when it is killed between making its inner half and letting it go on.
 */
export function sweepDeadRecords(folders: StateFolders): void {
  for (const { folder, record, alive } of readRecords(folders)) {
    const ours = isOurs(folders, record);
    // one with a state folder elsewhere is swept by whoever uses that, as long as it exists
    if (alive || (!ours && existsSync(dirname(record.scratch)))) continue;
    for (const pid of processesWithVariable("MODAL_SANDBOX_ID", record.id)) killQuietly(pid);
    if (ours) removeFolder(record.scratch);
    removeFolder(folder);
  }
  for (const name of readdirSync(folders.running)) {
    const folder = join(folders.running, name);
    if (!existsSync(join(folder, "record.json")) && isOlderThan(folder, unfinishedMs)) removeFolder(folder);
  }
}

/** Removes a folder that a sandbox wrote to: it may hold folders without permissions, and links, which are not followed. */
export function removeFolder(folder: string): void {
  try {
    rmSync(folder, { recursive: true, force: true });
  } catch {
    // an agent can close its own folders to us: opened here, links left alone
    spawnSync("/usr/bin/find", [folder, "-type", "d", "-exec", "chmod", "u+rwx", "{}", ";"], { stdio: "ignore" });
    rmSync(folder, { recursive: true, force: true });
  }
}

function isOurs(folders: StateFolders, record: OwnedRecord): boolean {
  return record.scratch.startsWith(`${folders.scratch}/`);
}

function isOlderThan(path: string, ms: number): boolean {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat !== undefined && Date.now() - stat.mtimeMs > ms;
}

function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new SandboxError(`Cannot write to "${folder}": ${messageOf(error)}`, {
      hint: "choose another place with XDG_STATE_HOME or the stateFolder setting",
      cause: error,
    });
  }
}

function readRecords(folders: StateFolders): FoundRecord[] {
  return readdirSync(folders.running).flatMap((name) => {
    const folder = join(folders.running, name);
    const path = join(folder, "record.json");
    if (!existsSync(path)) return [];
    try {
      const record = JSON.parse(readFileSync(path, "utf8")) as OwnedRecord;
      return [{ folder, record, alive: startTime(record.ownerPid) === record.ownerStartTime }];
    } catch {
      // being written or being removed by its maker: left to the next sweep
      return [];
    }
  });
}
