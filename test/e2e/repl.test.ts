/** The REPL at a real pseudo-terminal. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { User } from "../helpers/cli.ts";
import { processes, untilNone } from "../helpers/processes.ts";
import { controlC, controlD, Terminal } from "../helpers/terminal.ts";

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
  assert.deepEqual(await untilNone(left), []);
});
