/** The REPL at a real pseudo-terminal, which Python makes. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { User } from "../helpers/cli.ts";
import { processes, untilNone } from "../helpers/processes.ts";

const binPath = join(import.meta.dirname, "../../bin/modal-sb.js");
const deadlineMs = 30_000;
const controlC = "\u0003";
const controlD = "\u0004";

/** Runs its arguments at a terminal whose other end are its own stdin and stdout. */
const pseudoTerminal = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

/** A person at a terminal. */
class Terminal {
  readonly child: ChildProcess;
  readonly exited: Promise<number | null>;
  #screen = "";
  #from = 0;
  #wake = () => {};

  constructor(user: User, ...argv: string[]) {
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

test("a conversation: turns, Ctrl-C for the turn, a paste, Ctrl-D", async () => {
  await using user = await User.create();
  const terminal = new Terminal(user, "--session", "chat");
  await terminal.sees(/› /);
  terminal.type("hello\r");
  await terminal.sees(/turn 1: You said: hello/);
  await terminal.sees(/› /);
  terminal.type("!bash echo quince\r");
  await terminal.sees(/● Bash echo quince/);
  await terminal.sees(/⎿ quince/);
  await terminal.sees(/› /);
  terminal.type("!hang\r");
  await terminal.sees(/waiting/);
  terminal.type(controlC);
  await terminal.sees(/interrupted/);
  await terminal.sees(/› /);
  terminal.type("two\nlines\r");
  await terminal.sees(/turn 4: You said: two\r\nlines/);
  await terminal.sees(/› /);
  terminal.type("/help\r");
  await terminal.sees(/Ctrl-C +interrupts/);
  await terminal.sees(/› /);
  terminal.type("after\r");
  await terminal.sees(/You said: after/);
  await terminal.sees(/› /);
  terminal.type(controlD);
  assert.equal(await terminal.exited, 0);
  assert.ok(user.api.requests.every((request) => request.headers["x-api-key"] === user.key));
});

test("Ctrl-C twice ends the turn, by interrupt or by force, and the conversation goes on", async () => {
  await using user = await User.create();
  const terminal = new Terminal(user);
  await terminal.sees(/› /);
  terminal.type("remember kumquat\r");
  await terminal.sees(/You said: remember kumquat/);
  await terminal.sees(/› /);
  terminal.type("!hang\r");
  await terminal.sees(/waiting/);
  terminal.type(controlC);
  terminal.type(controlC);
  await terminal.sees(/interrupted|was lost/);
  await terminal.sees(/› /);
  terminal.type("again\r");
  await terminal.sees(/You said: again/);
  assert.match(JSON.stringify(user.api.requests.at(-1)?.body), /kumquat/);
  await terminal.sees(/› /);
  terminal.type(controlD);
  assert.equal(await terminal.exited, 0);
});

test("escape sequences of the agent do not reach the terminal", async () => {
  await using user = await User.create();
  const terminal = new Terminal(user);
  await terminal.sees(/› /);
  terminal.type(`!raw ${JSON.stringify("\u001b[2J\u001b]0;owned\u0007visible")}\r`);
  const shown = await terminal.sees(/\r\n[^\r]*visible/);
  assert.ok(!shown.includes("\u001b[2J") && !shown.includes("\u0007"));
  await terminal.sees(/› /);
  terminal.type(controlD);
  assert.equal(await terminal.exited, 0);
});

test("a session that cannot start ends the prompt with its reason", async () => {
  await using user = await User.create();
  const terminal = new Terminal(user, "--instructions", "/nonexistent");
  await terminal.sees(/error: The instructions of --instructions are not a folder/);
  assert.equal(await terminal.exited, 2);
});

test("a terminal that is closed leaves nothing running", async () => {
  await using user = await User.create();
  const terminal = new Terminal(user);
  await terminal.sees(/› /);
  terminal.type("!hang\r");
  await terminal.sees(/waiting/);
  terminal.child.kill("SIGKILL");
  await terminal.exited;
  const left = () =>
    processes().then((all) =>
      all.filter(({ environment }) => environment.some((entry) => entry.includes(user.api.origin))),
    );
  assert.deepEqual(await untilNone(left, 20_000), []);
});
