/** The commands for sessions that run, from other processes than the session's own. */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { createProvider } from "../../src/sandbox/sandbox.ts";
import { type Ended, ended, User } from "../helpers/cli.ts";
import { processes, processesOf, untilNone } from "../helpers/processes.ts";
import { shellInside } from "../helpers/run-inside.ts";
import { sandboxSpec } from "../helpers/sandbox-spec.ts";
import { controlC, controlD, Terminal } from "../helpers/terminal.ts";

/** `modal-sb --session <name>` that has answered one message and waits for the next. */
class Talk implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  #said = "";
  #wake = () => {};

  private constructor(user: User, name: string) {
    this.child = user.start(["--session", name]);
    this.child.stdout?.on("data", (chunk) => {
      this.#said += chunk;
      this.#wake();
    });
    this.ended = ended(this.child);
    void this.ended.then(() => this.#wake());
  }

  static async begin(user: User, name: string, message = "hello"): Promise<Talk> {
    const talk = new Talk(user, name);
    await talk.say(message);
    return talk;
  }

  /** One turn; what the agent said. */
  async say(message: string): Promise<string> {
    this.#said = "";
    this.child.stdin?.write(`${message}\n`);
    while (!this.#said.includes("END_TURN\n")) {
      if (this.child.exitCode !== null) throw new Error(`It ended: ${(await this.ended).stderr}`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#said.replace(/END_TURN\n$/, "");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill("SIGTERM");
    await this.ended;
  }
}

async function listed(user: User, ...flags: string[]): Promise<Record<string, unknown>[]> {
  const { stdout } = await user.run(["ls", "--json", ...flags]);
  return stdout
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

test("ls: a friendly sentence, then each sandbox with the process that has it, then what has ended", async () => {
  await using user = await User.create();
  const empty = await user.run(["ls"]);
  assert.deepEqual([empty.code, empty.stderr], [0, ""]);
  assert.match(empty.stdout, /^No sandbox is running/);
  {
    await using talk = await Talk.begin(user, "one");
    const { code, stdout } = await user.run(["ls"]);
    assert.equal(code, 0);
    assert.match(stdout, new RegExp(`one +local +agent +process ${talk.child.pid} +\\d+ s +23 h 59 min`));
    assert.match(stdout, /2 sandboxes of 1 session · \$0\.\d+ for the model/);
    const rows = await listed(user);
    assert.deepEqual(rows.map(({ role, state, pid }) => [role, state, pid]).sort(), [
      ["agent", "held", talk.child.pid],
      ["proxy", "held", talk.child.pid],
    ]);
  }
  assert.deepEqual(await listed(user), []);
  const [past] = await listed(user, "--all");
  assert.deepEqual([past?.["session"], past?.["state"]], ["one", "ended"]);
  assert.ok(Number(past?.["modelUsd"]) > 0);
});

test("ls shows nothing of another state folder's sandboxes", async () => {
  await using user = await User.create();
  await using _talk = await Talk.begin(user, "mine");
  const elsewhere = await user.run(["ls", "--state-folder", join(user.home, "another")]);
  assert.match(elsewhere.stdout, /^No sandbox is running/);
});

test("shell -- command: streams, exit code, and bytes as they are to a pipe", async () => {
  await using user = await User.create();
  await using _talk = await Talk.begin(user, "one", "!bash echo quince > /data/note");
  const script = "cat; cat /data/note; echo problem >&2; exit 7";
  const outcome = await user.run(["shell", "one", "--", "sh", "-c", script], { input: "given\n" });
  assert.deepEqual(outcome, { code: 7, stdout: "given\nquince\n", stderr: "problem\n" });
  const raw = await user.run(["shell", "--", "printf", "\\033]52;c;eA==\\007\\377"]);
  assert.equal(raw.stdout, "\u001b]52;c;eA==\u0007\ufffd");
  assert.equal((await user.run(["shell", "--", "/no/such/program"])).code, 127);
  assert.equal((await user.run(["shell", "--", "sh", "-c", "kill -TERM $$"])).code, 143);
});

test("shell is in the agent's sandbox, with no more rights than the agent", async () => {
  await using user = await User.create();
  await using _talk = await Talk.begin(user, "one");
  const [agent] = (await listed(user)).filter(({ role }) => role === "agent");
  const script = 'echo "$MODAL_SANDBOX_ID $(id -u)"; grep -E "^(CapPrm|CapEff|NoNewPrivs)" /proc/self/status; pwd';
  const { stdout } = await user.run(["shell", "--", "sh", "-c", script]);
  assert.equal(
    stdout,
    `${agent?.["id"]} 1000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n/app\n`,
  );
  const escaped = await user.run(["shell", "--", "sh", "-c", `ls ${user.home}; printenv ANTHROPIC_API_KEY`]);
  assert.notEqual(escaped.code, 0);
  assert.equal(escaped.stdout, "");
});

test("shell: what the command leaves in the background does not hold it, and a reader that goes away ends it", async () => {
  await using user = await User.create();
  await using _talk = await Talk.begin(user, "one");
  const outcome = await user.run(["shell", "--", "sh", "-c", "sleep 600 & echo done"]);
  assert.deepEqual([outcome.code, outcome.stdout], [0, "done\n"]);
  const endless = user.start(["shell", "--", "yes"]);
  assert.ok(endless.stdout);
  await once(endless.stdout, "data");
  endless.stdout.destroy();
  await once(endless, "exit");
});

test("shell -- command: Ctrl-C is for the command; one that does not listen is ended by three; SIGTERM ends both", async () => {
  await using user = await User.create();
  await using _talk = await Talk.begin(user, "one");
  const begin = async (script: string) => {
    const child = user.start(["shell", "--", "sh", "-c", script]);
    assert.ok(child.stdout);
    await once(child.stdout, "data");
    return { child, exited: once(child, "close") };
  };
  const polite = await begin("trap 'echo caught; exit 5' INT; echo in; sleep 600 & wait; wait");
  polite.child.kill("SIGINT");
  assert.equal((await polite.exited)[0], 5);
  const deaf = await begin("trap '' INT; echo in; while :; do sleep 600; done");
  // signals that come together are one; those that come after the third change nothing
  const again = setInterval(() => deaf.child.kill("SIGINT"), 1);
  const [code] = await deaf.exited;
  clearInterval(again);
  assert.equal(code, 130);
  const stopped = await begin("echo in; exec sleep 601");
  stopped.child.kill("SIGTERM");
  assert.equal((await stopped.exited)[0], 143);
  const sleeping = async () => (await processes()).filter(({ command }) => command === "sleep 601");
  assert.deepEqual(await untilNone(sleeping), []);
});

test("shell passes much, both ways, at the pace of the slower side", async () => {
  await using user = await User.create();
  await using _talk = await Talk.begin(user, "one");
  const input = "0123456789abcdef\n".repeat(500_000);
  const { code, stdout } = await user.run(["shell", "--", "cat"], { input });
  assert.equal(code, 0);
  assert.ok(stdout === input, `${stdout.length} of ${input.length} bytes came back`);
});

test("an interactive shell at a terminal: a prompt, Ctrl-C for the command, Ctrl-D; no escape sequence comes through", async () => {
  await using user = await User.create();
  await using _talk = await Talk.begin(user, "one");
  const terminal = new Terminal(user, "shell");
  await terminal.sees(/lines only, no full-screen programs/);
  await terminal.sees(/agent:\/app\$ /);
  terminal.type("printf '\\033]52;c;cm0=\\007\\033[2Jvisible\\n'\r");
  const shown = await terminal.sees(/\r\n[^\n]*visible/);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  assert.doesNotMatch(shown, /[\u001b\u0007]/);
  await terminal.sees(/agent:\/app\$ /);
  terminal.type("cd /tmp; echo begun; sleep 600; echo behind\r");
  await terminal.sees(/\nbegun/);
  terminal.type(controlC);
  await terminal.sees(/agent:\/tmp\$ /);
  terminal.type("echo alive\r");
  await terminal.sees(/\nalive/);
  await terminal.sees(/agent:\/tmp\$ /);
  terminal.type(controlD);
  assert.equal(await terminal.exited, 0);
});

test("stop: the session's process ends it, nothing is left, and the conversation is kept", async () => {
  await using user = await User.create();
  await using talk = await Talk.begin(user, "one");
  const ids = new Set((await listed(user)).map(({ id }) => String(id)));
  assert.equal(ids.size, 2);
  const { code, stderr } = await user.run(["stop"]);
  assert.equal(code, 0, stderr);
  assert.match(stderr, new RegExp(`asking process ${talk.child.pid} to end`));
  assert.match(stderr, /Stopped "one": (proxy|agent) sb-\w+ \(\d+ s\), /);
  // whoever was asked is still on its way out
  assert.deepEqual(await processesOf(ids), []);
  assert.equal((await talk.ended).code, 143);
  const again = await user.run(["stop", "one"]);
  assert.deepEqual([again.code, again.stderr], [0, 'The session "one" is not running.\n']);
  const { stdout } = await user.run(["-p", "again", "--session", "one"]);
  assert.equal(stdout, "turn 2: You said: again\n");
});

test("stop --all ends every session, also one in the middle of a turn", async () => {
  await using user = await User.create();
  await using one = await Talk.begin(user, "one");
  await using two = await Talk.begin(user, "two");
  void one.say("!hang").catch(() => {});
  const { code, stderr } = await user.run(["stop", "--all"]);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /Stopped "one"/);
  assert.match(stderr, /Stopped "two"/);
  assert.deepEqual([(await one.ended).code, (await two.ended).code], [143, 143]);
  assert.match((await user.run(["stop", "--all"])).stderr, /No session is running/);
});

test("a session that is asked to end again and again still ends in order", async () => {
  await using user = await User.create();
  await using talk = await Talk.begin(user, "one");
  const ids = new Set((await listed(user)).map(({ id }) => String(id)));
  const again = setInterval(() => talk.child.kill("SIGTERM"), 5);
  const { code } = await talk.ended;
  clearInterval(again);
  assert.equal(code, 143);
  assert.deepEqual(await processesOf(ids), []);
});

test("stop ends no program that uses modal-sb as a library", async () => {
  await using user = await User.create();
  await using provider = await createProvider("local", { stateFolder: user.stateFolder, hostEnvironment: process.env });
  await using sandbox = await provider.create(sandboxSpec({ name: "theirs-agent", tags: { session: "theirs" } }));
  const { code, stderr } = await user.run(["stop", "theirs"]);
  assert.equal(code, 3);
  assert.match(stderr, new RegExp(`belongs to process ${process.pid}, which is not the command modal-sb`));
  assert.equal((await shellInside(sandbox, "echo here")).stdout, "here\n");
});

test("names: the nearest is offered, and with several sessions which they are", async () => {
  await using user = await User.create();
  for (const command of ["shell", "stop", "logs"]) {
    const none = await user.run([command]);
    assert.deepEqual([none.code, none.stdout], [2, ""]);
    assert.match(none.stderr, /No session is running/);
  }
  await using _one = await Talk.begin(user, "train");
  await using _two = await Talk.begin(user, "eval");
  for (const command of ["shell", "stop", "logs"]) {
    const typo = await user.run([command, "trian"]);
    assert.equal(typo.code, 2);
    assert.match(typo.stderr, /There is no session "trian"[\s\S]*did you mean train\?/);
    const several = await user.run([command]);
    assert.equal(several.code, 2);
    assert.match(several.stderr, /2 sessions are running: say which[\s\S]*running: (train, eval|eval, train)/);
  }
  assert.match((await user.run(["shell", "../x"])).stderr, /Bad session name/);
});

test("logs: the end of the conversation where the provider keeps no output, and where there is more", async () => {
  await using user = await User.create();
  {
    await using talk = await Talk.begin(user, "one", `!raw ${JSON.stringify("\u001b]0;owned\u0007fig")}`);
    await talk.say("!bash echo quince");
    const { code, stdout, stderr } = await user.run(["logs"]);
    assert.equal(code, 0);
    assert.match(stdout, /^fig\n[\s\S]*● Bash echo quince\n {2}⎿ quince\n/);
    assert.match(stderr, /the provider keeps none[\s\S]*modal-sb audit one/);
    const proxy = await user.run(["logs", "--role", "proxy"]);
    assert.deepEqual([proxy.code, proxy.stdout], [0, ""]);
  }
  const ended = await user.run(["logs", "one"]);
  assert.match(ended.stdout, /quince/);
  assert.match(ended.stderr, /No sandbox of "one" is running/);
});

test("logs follows no link that the agent has put in the place of its log", async () => {
  await using user = await User.create();
  await using _talk = await Talk.begin(user, "one");
  const secret = `{"seq":1,"type":"text_delta","turnId":"t","text":"from the host"}`;
  const host = join(user.home, "host");
  await mkdir(host);
  await writeFile(join(host, "events.ndjson"), `${secret}\n`, { mode: 0o644 });
  const steps = [
    `cd /data/sessions/* && rm events.ndjson && ln -s ${join(host, "events.ndjson")} events.ndjson`,
    "cd /data/sessions/* && rm events.ndjson && mkfifo events.ndjson",
    `cd /data/sessions && name=$(ls) && mv "$name" .kept && ln -s ${host} "$name"`,
    `cd /data && name=$(ls sessions) && mv sessions .kept2 && ln -s ${user.home} sessions && echo "$name"`,
  ];
  for (const step of steps) {
    const done = await user.run(["shell", "--", "sh", "-c", step]);
    assert.equal(done.code, 0, done.stderr);
    const id = done.stdout.trim();
    if (id !== "") await rename(host, join(user.home, id));
    const { code, stdout, stderr } = await user.run(["logs"]);
    assert.deepEqual([code, stdout], [0, ""], step);
    assert.match(stderr, /Nothing of the conversation/);
  }
});

test("pull and push reach the agent's sandbox of a running session", async () => {
  await using user = await User.create();
  assert.equal((await user.run(["pull", "one", "/data/note"])).code, 2);
  await using _talk = await Talk.begin(user, "one", "!bash echo quince > /data/note");
  const pulled = await user.run(["pull", "one", "/data/note"]);
  assert.equal(pulled.code, 0, pulled.stderr);
  assert.equal(await readFile(join(user.home, "project/note"), "utf8"), "quince\n");
  await writeFile(join(user.home, "project/plan"), "medlar\n");
  const pushed = await user.run(["push", "one", "plan"]);
  assert.equal(pushed.code, 0, pushed.stderr);
  assert.equal((await user.run(["shell", "--", "cat", "/app/plan"])).stdout, "medlar\n");
  await writeFile(join(user.home, "project/leak"), `key=${user.key}\n`);
  assert.equal((await user.run(["push", "one", "leak"])).code, 7);
});

test("gc leaves a running session alone, and says what happens to leftovers on this machine", async () => {
  await using user = await User.create();
  await using talk = await Talk.begin(user, "one");
  const { code, stdout, stderr } = await user.run(["gc", "--yes"]);
  assert.equal(code, 0);
  assert.match(stdout, new RegExp(`keep +one +agent .* in use by process ${talk.child.pid}`));
  assert.match(stderr, /no sandbox is an orphan[\s\S]*processes that died have left/);
  assert.equal(await talk.say("still there?"), "turn 2: You said: still there?\n");
});

test("a session whose process is killed with shells in it leaves nothing", async () => {
  await using user = await User.create();
  await using talk = await Talk.begin(user, "one");
  const ids = new Set((await listed(user)).map(({ id }) => String(id)));
  const shell = user.start(["shell", "--", "sh", "-c", "echo in; exec sleep 600"]);
  assert.ok(shell.stdout);
  await once(shell.stdout, "data");
  talk.child.kill("SIGKILL");
  const [code] = (await once(shell, "exit")) as [number];
  assert.equal(code, 137);
  assert.deepEqual(await untilNone(() => processesOf(ids)), []);
  assert.deepEqual(await listed(user), []);
  assert.deepEqual(
    (await processes()).filter(({ command }) => command.includes(user.home) && command.includes("bwrap")),
    [],
  );
});
