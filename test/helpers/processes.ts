/** The processes of this machine, as /proc shows them. Ended ones that nobody has waited for are left out. */
import { readFileSync } from "node:fs";
import { readdir, readFile, readlink } from "node:fs/promises";

export interface ProcessInfo {
  pid: number;
  /** the program's file, as the kernel names it */
  executable: string;
  /** arguments with spaces between */
  command: string;
  /** `NAME=value` */
  environment: string[];
  residentMiB: number;
}

export async function processes(): Promise<ProcessInfo[]> {
  const pids = (await readdir("/proc")).map(Number).filter(Number.isInteger);
  return (await Promise.all(pids.map(describe))).filter((found) => found !== undefined);
}

/**
 * When it was started, in the kernel's ticks: a number is given again after its process has ended. undefined: it is gone,
 * or has ended and nobody has waited for it.
 */
export function startOf(pid: number): string | undefined {
  try {
    // behind the name in brackets, which may have spaces: the state, and field 22 of the whole line
    const fields = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ").at(-1)?.split(" ");
    return /^[ZX]$/.test(fields?.[0] ?? "") ? undefined : fields?.[19];
  } catch {
    return undefined;
  }
}

export async function openFiles(pid: number): Promise<number> {
  return (await readdir(`/proc/${pid}/fd`)).length;
}

/** Processes of these sandboxes, on whichever side of their walls. */
export async function processesOf(sandboxIds: ReadonlySet<string>): Promise<ProcessInfo[]> {
  return (await processes()).filter((process) =>
    process.environment.some(
      (entry) => entry.startsWith("MODAL_SANDBOX_ID=") && sandboxIds.has(entry.slice("MODAL_SANDBOX_ID=".length)),
    ),
  );
}

/** Asks until there are none, or the deadline is over; what is left. the process table knows no events. */
export async function untilNone(find: () => Promise<ProcessInfo[]>, deadlineMs = 180_000): Promise<ProcessInfo[]> {
  const deadline = Date.now() + deadlineMs;
  for (;;) {
    const found = await find();
    if (found.length === 0 || Date.now() > deadline) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function describe(pid: number): Promise<ProcessInfo | undefined> {
  try {
    const status = await readFile(`/proc/${pid}/status`, "utf8");
    if (/^State:\s+[ZX]/m.test(status)) return undefined;
    return {
      pid,
      executable: await readlink(`/proc/${pid}/exe`).catch(() => ""),
      command: (await readFile(`/proc/${pid}/cmdline`, "utf8")).replaceAll("\0", " ").trim(),
      environment: (await readFile(`/proc/${pid}/environ`, "utf8").catch(() => "")).split("\0"),
      residentMiB: Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) / 1024,
    };
  } catch {
    // it ended while it was being read
    return undefined;
  }
}
