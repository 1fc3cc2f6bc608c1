import { readdirSync, readFileSync, readlinkSync } from "node:fs";

const pageBytes = 4096;

/** A process of a sandbox, by its number inside. */
export interface InsideProcess {
  pid: number;
  /** memory that is its own, in bytes: resident and not shared */
  ownBytes: number;
}

/** The processes in the pid namespace of host process `pid`, read from that sandbox's own /proc; empty when it ended. */
export function processesInside(pid: number): InsideProcess[] {
  const proc = `/proc/${pid}/root/proc`;
  try {
    return readdirSync(proc)
      .filter((name) => /^\d+$/.test(name))
      .map((name) => ({ pid: Number(name), ownBytes: ownBytes(`${proc}/${name}/statm`) }));
  } catch {
    // the sandbox ended between two looks
    return [];
  }
}

/** Proportional share of memory of all processes inside, in bytes: exact, and a hundred times the work of statm. */
export function proportionalBytes(pid: number): number {
  const proc = `/proc/${pid}/root/proc`;
  return processesInside(pid)
    .map((inside) => /^Pss:\s+(\d+) kB/m.exec(readOrEmpty(`${proc}/${inside.pid}/smaps_rollup`)))
    .reduce((sum, match) => sum + Number(match?.[1] ?? 0) * 1024, 0);
}

/** The host's number of the process that is `insidePid` in the namespace of host process `pid`. */
export function hostPidOf(pid: number, insidePid: number): number | undefined {
  const namespace = linkOrEmpty(`/proc/${pid}/ns/pid`);
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .find((candidate) => {
      if (linkOrEmpty(`/proc/${candidate}/ns/pid`) !== namespace) return false;
      const numbers = /^NSpid:\s+(.*)$/m.exec(readOrEmpty(`/proc/${candidate}/status`))?.[1]?.split(/\s+/);
      return Number(numbers?.at(-1)) === insidePid;
    });
}

/** Children of every thread of a process. */
export function childrenOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
      readOrEmpty(`/proc/${pid}/task/${thread}/children`).split(" ").filter(Boolean).map(Number),
    );
  } catch {
    // the process ended
    return [];
  }
}

/** The process that started `pid`, or has taken it over; undefined when it ended. */
export function parentOf(pid: number): number | undefined {
  const field = fieldsAfterName(pid)[1];
  return field === undefined ? undefined : Number(field);
}

/** The environment that a process was started with, unless it has changed it; empty when it ended or is not ours. */
export function environmentOf(pid: number): Record<string, string> {
  const entries = readOrEmpty(`/proc/${pid}/environ`, "utf8").split("\0").filter(Boolean);
  return Object.fromEntries(entries.map((entry) => [entry.split("=", 1)[0], entry.slice(entry.indexOf("=") + 1)]));
}

/**
 * When a process started, in clock ticks since boot: with the pid it names one process for ever. Undefined when it ended,
 * also while nobody has waited for it: a service or a container's first process may never do that.
 */
export function startTime(pid: number): string | undefined {
  const fields = fieldsAfterName(pid);
  return /^[ZX]$/.test(fields[0] ?? "") ? undefined : fields[19];
}

/** Processes that were started with `name=value` in their environment. */
export function processesWithVariable(name: string, value: string): number[] {
  return readdirSync("/proc")
    .map(Number)
    .filter((pid) => Number.isInteger(pid))
    .filter((pid) => readOrEmpty(`/proc/${pid}/environ`).split("\0").includes(`${name}=${value}`));
}

/** Sends a signal, SIGKILL when undefined, to a process that may have ended. */
export function killQuietly(pid: number, signal: NodeJS.Signals = "SIGKILL"): void {
  try {
    process.kill(pid, signal);
  } catch {
    // it ended by itself
  }
}

function ownBytes(statm: string): number {
  const [, resident, shared] = readOrEmpty(statm).split(" ").map(Number);
  return ((resident ?? 0) - (shared ?? 0)) * pageBytes;
}

/** Fields of /proc/<pid>/stat. The name in field 2 may hold spaces and parentheses: they are counted from its end. */
function fieldsAfterName(pid: number): string[] {
  return (readOrEmpty(`/proc/${pid}/stat`).split(") ").at(-1) ?? "").split(" ");
}

function readOrEmpty(path: string, encoding: "latin1" | "utf8" = "latin1"): string {
  try {
    return readFileSync(path, encoding);
  } catch {
    // processes end while they are looked at
    return "";
  }
}

function linkOrEmpty(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    // as above, or a process of another user
    return "";
  }
}
