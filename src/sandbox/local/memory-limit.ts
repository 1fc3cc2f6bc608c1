/**
 * Keeps a sandbox within its memory without cgroups, which an ordinary user cannot count on: it looks at the sum and
 * ends the largest process, as the kernel's own killer would. Between two looks a sandbox can overshoot; the sandbox's
 * raised out-of-memory score makes the kernel choose it first, should the machine itself run out.
 */
import { hostPidOf, processesInside, proportionalBytes } from "./process-table.ts";

const mebibyte = 1024 * 1024;
const relaxedMs = 1000;
/** used once half of the limit is reached */
const alertMs = 100;

export interface MemoryLimit {
  stop(): void;
}

/** Watches the sandbox of host process `pid`; `onKill` hears of each process that was ended. */
export function limitMemory(
  pid: number,
  limitMiB: number,
  onKill: (kill: { insidePid: number; ownMiB: number }) => void,
): MemoryLimit {
  const limit = limitMiB * mebibyte;
  let timer: NodeJS.Timeout;
  const look = () => {
    const processes = processesInside(pid);
    const sum = processes.reduce((bytes, inside) => bytes + inside.ownBytes, 0);
    // forked processes count shared pages twice: the exact figure decides
    if (sum > limit && proportionalBytes(pid) > limit) {
      const largest = processes.filter((inside) => inside.pid !== 1).sort((a, b) => b.ownBytes - a.ownBytes)[0];
      const hostPid = largest && hostPidOf(pid, largest.pid);
      if (largest && hostPid !== undefined) {
        killQuietly(hostPid);
        onKill({ insidePid: largest.pid, ownMiB: Math.round(largest.ownBytes / mebibyte) });
      }
    }
    timer = setTimeout(look, sum > limit / 2 ? alertMs : relaxedMs);
  };
  timer = setTimeout(look, relaxedMs);
  return { stop: () => clearTimeout(timer) };
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // it ended by itself
  }
}
