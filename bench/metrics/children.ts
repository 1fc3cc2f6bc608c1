/** The area's child processes end however the run ends. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";

export interface Child extends AsyncDisposable {
  process: ChildProcessWithoutNullStreams;
  pid: number;
  /** Rejects with its last words when it ends. */
  ended: Promise<never>;
}

const living = new Set<number>();
process.on("exit", () => {
  for (const pid of living) process.kill(pid, "SIGKILL");
});

/** A pid that others wait for; disposal forgets it. */
export function endWithUs(pid: number): Disposable {
  living.add(pid);
  return { [Symbol.dispose]: () => void living.delete(pid) };
}

/** Starts a TypeScript program with this Node; disposal asks it to end, and waits. */
export function startProgram(path: string, args: readonly string[], env: Record<string, string>): Child {
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", path, ...args], { env });
  const { pid } = child;
  if (pid === undefined) throw new Error(`${path} cannot be started`);
  living.add(pid);
  let words = "";
  child.stderr.on("data", (chunk) => {
    words = `${words}${chunk}`.slice(-1000);
  });
  const exited = once(child, "exit").finally(() => living.delete(pid));
  const ended = exited.then(() => Promise.reject(new Error(`${path} ended: ${words}`)));
  ended.catch(() => {});
  return {
    process: child,
    pid,
    ended,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await exited;
    },
  };
}
