/** A Python process with trackio that does something for each line it gets, and says a line when it has. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { environmentOf, type Version } from "./trackio.ts";

export interface PythonProcess extends AsyncDisposable {
  process: ChildProcess;
  exited: Promise<unknown>;
  /** Sends a line; resolves with the answer, which begins with `logged`. Rejects when the process ended first. */
  ask(line: string): Promise<string>;
  /** Closes its stdin and waits for its end. Rejects when it failed. */
  end(): Promise<void>;
}

export function startPython(version: Version, folder: string, code: string): PythonProcess {
  const child = spawn("python3", ["-c", `import trackio\n${code}`], { env: environmentOf(version, folder) });
  let words = "";
  child.stderr.on("data", (chunk) => (words += chunk));
  const exited = once(child, "exit");
  const waiting: ((answer: string) => void)[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => {
    if (line.startsWith("logged")) waiting.shift()?.(line);
  });
  return {
    process: child,
    exited,
    async ask(line) {
      const { promise, resolve } = Promise.withResolvers<string>();
      waiting.push(resolve);
      child.stdin.write(`${line}\n`);
      const ended = exited.then(() => Promise.reject(new Error(`the writer ended: ${words}`)));
      return await Promise.race([promise, ended]);
    },
    async end() {
      child.stdin.end();
      const [code] = await exited;
      if (code !== 0) throw new Error(`the writer failed: ${words}`);
    },
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await exited;
    },
  };
}
