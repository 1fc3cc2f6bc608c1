/** Processor time of processes, to the nanosecond: the ticks of /proc/<pid>/stat are 10 ms. */
import { readdirSync, readFileSync } from "node:fs";

/** Milliseconds so far of all threads of a process and of its children that are alive. */
export function processorMs(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`).map((thread) => `/proc/${pid}/task/${thread}`);
  const own = threads.reduce(
    (sum, thread) => sum + Number(readFileSync(`${thread}/schedstat`, "utf8").split(" ")[0]),
    0,
  );
  return threads
    .flatMap((thread) => readFileSync(`${thread}/children`, "utf8").split(" ").map(Number).filter(Boolean))
    .reduce((sum, child) => sum + processorMs(child), own / 1e6);
}
