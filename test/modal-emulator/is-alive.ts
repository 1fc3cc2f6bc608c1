import { startOf } from "../helpers/processes.ts";

/** Whether a process of that id runs on this machine. */
export function isAlive(pid: number): boolean {
  return startOf(pid) !== undefined;
}
