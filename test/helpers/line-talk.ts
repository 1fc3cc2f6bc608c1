/** A conversation in lines with a running modal-sb: its words so far, and waiting for more. */
import type { ChildProcess } from "node:child_process";

/** a child that waits for ever would hold the whole run */
const longestMs = 600_000;

export interface LineTalk {
  say(line: string): void;
  /** Resolves with all of the stream's text as soon as it matches; rejects when the process has ended without, or in ten minutes. */
  until(stream: "stdout" | "stderr", pattern: RegExp): Promise<string>;
  stdout(): string;
  stderr(): string;
}

export function lineTalk(child: ChildProcess): LineTalk {
  const text = { stdout: "", stderr: "" };
  const watchers = new Set<() => void>();
  let isEnded = false;
  for (const name of ["stdout", "stderr"] as const) {
    child[name]?.on("data", (chunk: Buffer) => {
      text[name] += chunk.toString("utf8");
      for (const look of watchers) look();
    });
  }
  child.once("close", () => {
    isEnded = true;
    for (const look of watchers) look();
  });
  return {
    say: (line) => void child.stdin?.write(`${line}\n`),
    until: (stream, pattern) =>
      new Promise((resolve, reject) => {
        let isLate = false;
        const timer = setTimeout(() => {
          isLate = true;
          look();
        }, longestMs);
        const look = () => {
          const isFound = pattern.test(text[stream]);
          if (!isFound && !isEnded && !isLate) return;
          clearTimeout(timer);
          watchers.delete(look);
          if (isFound) resolve(text[stream]);
          else reject(new Error(`${pattern} never came on ${stream}.\n${text.stdout}\n---\n${text.stderr}`));
        };
        watchers.add(look);
        look();
      }),
    stdout: () => text.stdout,
    stderr: () => text.stderr,
  };
}
