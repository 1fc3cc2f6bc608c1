/** A control group that limits memory, of either version, where the machine has one. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isAlive } from "./is-alive.ts";

const roots = [
  { root: "/sys/fs/cgroup/memory", limit: "memory.limit_in_bytes", events: "memory.oom_control" },
  { root: "/sys/fs/cgroup", limit: "memory.max", events: "memory.events" },
] as const;

let counter = 0;

export class MemoryGroup implements AsyncDisposable {
  readonly #folder: string;
  readonly #events: string;

  private constructor(folder: string, events: string) {
    this.#folder = folder;
    this.#events = events;
  }

  /** undefined when the machine has no such groups */
  static create(limitMiB: number): MemoryGroup | undefined {
    for (const { root, limit, events } of roots) {
      const folder = join(root, `modal-emulator-${process.pid}-${counter++}`);
      try {
        mkdirSync(folder);
        if (!existsSync(join(folder, limit))) rmdirSync(folder);
        else {
          writeFileSync(join(folder, limit), String(limitMiB * 1024 * 1024));
          return new MemoryGroup(folder, join(folder, events));
        }
      } catch {
        // the next kind
      }
    }
    return undefined;
  }

  /** A command that joins the group and becomes `command`. */
  joined(command: readonly string[]): string[] {
    return ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', join(this.#folder, "cgroup.procs"), ...command];
  }

  /** The kernel has killed a process for the group's limit. */
  ranOut(): boolean {
    try {
      return Number(/^oom_kill (\d+)/m.exec(readFileSync(this.#events, "utf8"))?.[1] ?? 0) > 0;
    } catch {
      return false;
    }
  }

  /** The last processes leave a little after their sandbox has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (let tries = 0; tries < 200; tries++) {
      try {
        return rmdirSync(this.#folder);
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }
  }
}

/** Groups of emulators that are gone. */
export function sweepMemoryGroups(): void {
  for (const { root } of roots) {
    for (const name of existsSync(root) ? readdirSync(root) : []) {
      const pid = /^modal-emulator-(\d+)-/.exec(name)?.[1];
      if (!pid || isAlive(Number(pid))) continue;
      try {
        rmdirSync(join(root, name));
      } catch {
        // not empty: somebody else's to end
      }
    }
  }
}
