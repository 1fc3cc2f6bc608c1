/** A person at a real pseudo-terminal, which Python makes. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import type { User } from "./cli.ts";

const binPath = join(import.meta.dirname, "../../bin/modal-sb.js");
const deadlineMs = 180_000;
export const controlC = "\u0003";
export const controlD = "\u0004";

/** Runs its arguments at a terminal whose other end are its own stdin and stdout. */
const pseudoTerminal = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

/** `modal-sb` with these arguments, at a terminal of its own. */
export class Terminal {
  readonly child: ChildProcess;
  readonly exited: Promise<number | null>;
  #screen = "";
  #from = 0;
  #wake = () => {};

  constructor(user: Pick<User, "environment" | "home">, ...argv: string[]) {
    this.child = spawn("python3", ["-c", pseudoTerminal, process.execPath, binPath, ...argv], {
      env: { ...user.environment(), TERM: "xterm" },
      cwd: user.home,
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.exited = new Promise((resolve) => this.child.once("close", resolve));
    this.child.stdout?.on("data", (chunk) => {
      this.#screen += chunk;
      this.#wake();
    });
  }

  type(keys: string): void {
    this.child.stdin?.write(keys);
  }

  /** Waits until the words stand on the screen behind those that were waited for last. */
  async sees(words: RegExp): Promise<string> {
    const tooLate = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => tooLate.reject(new Error(`No ${words} in ${JSON.stringify(this.#screen)}`)),
      deadlineMs,
    );
    try {
      for (;;) {
        const match = words.exec(this.#screen.slice(this.#from));
        if (match) {
          this.#from += match.index + match[0].length;
          return match[0];
        }
        const more = new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        await Promise.race([more, tooLate.promise]);
      }
    } finally {
      clearTimeout(timer);
    }
  }
}
