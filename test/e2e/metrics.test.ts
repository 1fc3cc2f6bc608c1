/** `modal-sb metrics` as a user runs it: on the volume of a session, on folders of the real trackio, at a terminal. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readlinkSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type TestContext, test } from "node:test";
import { createProvider } from "../../src/sandbox/sandbox.ts";
import { User } from "../helpers/cli.ts";
import { processesOf } from "../helpers/processes.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { isInstalled, newest, quiet } from "../syncer/runs.ts";
import { python } from "../syncer/trackio.ts";

const binPath = join(import.meta.dirname, "../../bin/modal-sb.js");
/** Runs its arguments at a terminal whose other end are its own stdin and stdout. */
const pseudoTerminal = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
/** a new terminal has no size */
const sized = 'stty rows 24 cols 90; exec "$@"';
/** a screen that never shows the words would hold the whole run */
const deadlineMs = 600_000;

const twoRuns = `
for name, rate in (("slow", 0.01), ("fast", 0.1)):
    trackio.init(project="my project", name=name, config={"rate": rate}, ${quiet})
    for i in range(30): trackio.log({"train/loss": 1 / (1 + i * rate), "eval": {"accuracy": i / 30}})
    trackio.finish()
`;

/** One more run of one row. */
const oneMore = `trackio.init(project="my project", name="third", ${quiet}); trackio.log({"train/loss": 7}); trackio.finish()`;

test("a session's metrics are shown from its volume; without metrics or session, what to do is said", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using user = await User.create();
  const none = await user.run(["metrics"]);
  assert.deepEqual([none.code, none.stdout], [2, ""]);
  assert.match(none.stderr, /There is no session yet/);
  assert.equal((await user.run(["-p", "hello", "-s", "first"])).code, 0);
  const empty = await user.run(["metrics", "first"]);
  assert.deepEqual([empty.code, empty.stdout], [2, ""]);
  assert.match(empty.stderr, /The session "first" has no metrics yet/);
  const unknown = await user.run(["metrics", "nobody"]);
  assert.equal(unknown.code, 2);
  assert.match(unknown.stderr, /There is no session "nobody"/);
  await python(newest, volumeOf(user, "first-trackio"), twoRuns);
  const { code, stdout, stderr } = await user.run(["metrics"]);
  assert.deepEqual([code, stderr], [0, ""]);
  assert.match(stdout, /^myproject {2}2 runs · 60 rows$/m);
  assert.match(stdout, /^ {2}fast +30 +0–29 +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/m);
  assert.match(stdout, /^ {2}train\/loss\n {2}━━ fast {2}0\.2564 {2}min 0\.2564 {2}max 1\n {2}══ slow {2}0\.7752 /m);
  assert.match(stdout, /^ {2}0\.967 ┤.*\n(?: +│.*\n)+/m);
  const lines = (await user.run(["metrics", "first", "--json"])).stdout.trimEnd().split("\n");
  const parsed = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.deepEqual(
    parsed.map(({ project, run, rows, lastStep }) => [project, run, rows, lastStep]),
    [
      ["myproject", "fast", 30, 29],
      ["myproject", "slow", 30, 29],
    ],
  );
  assert.deepEqual(parsed[0]?.["latest"], { "train/loss": 1 / (1 + 29 * 0.1), "eval/accuracy": 29 / 30 });
  assert.partialDeepStrictEqual(parsed[0]?.["config"], { rate: 0.1 });
});

/** The host's folder of a volume. */
function volumeOf(user: User, name: string): string {
  const found = readdirSync(user.stateFolder, { recursive: true, withFileTypes: true }).find(
    (entry) => entry.isDirectory() && entry.name === name,
  );
  assert.ok(found, `no volume ${name}`);
  const folder = join(found.parentPath, name);
  return readdirSync(folder).includes("content") ? join(folder, "content") : folder;
}

test("a session's databases are opened in a sandbox without network, which ends with the command", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using user = await User.create();
  const session = `read-${process.pid}`;
  assert.equal((await user.run(["-p", "hello", "-s", session])).code, 0);
  await python(newest, volumeOf(user, `${session}-trackio`), twoRuns);
  const child = user.start(["metrics", "--follow"]);
  context.after(() => child.kill("SIGKILL"));
  const shown = reading(child);
  await shown.sees(/60 rows/);
  await using provider = await createProvider("local", { stateFolder: user.stateFolder, hostEnvironment: process.env });
  const running = await processesOf(new Set((await provider.list({ session })).map(({ id }) => id)));
  const reader = running.find(({ command }) => command.includes("/agent/code/syncer/reader-main.js"));
  assert.ok(reader, running.map(({ command }) => command).join("\n"));
  assert.notEqual(readlinkSync(`/proc/${reader.pid}/ns/net`), readlinkSync("/proc/self/ns/net"));
  assert.notEqual(readlinkSync(`/proc/${reader.pid}/ns/mnt`), readlinkSync("/proc/self/ns/mnt"));
  child.kill("SIGINT");
  assert.equal(await shown.exited, 0);
  assert.ok(!existsSync(`/proc/${reader.pid}`));
});

test("projects, runs and metrics can be chosen in any folder", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using user = await User.create();
  await using folder = await temporaryFolder();
  await python(newest, folder.path, twoRuns);
  const show = (...args: string[]) => user.run(["metrics", "--folder", folder.path, ...args]);
  const chosen = await show("--project", "my project", "--run", "slow", "--metric", "eval");
  assert.equal(chosen.code, 0, chosen.stderr);
  assert.match(chosen.stdout, /^myproject {2}1 run · 30 rows$/m);
  assert.match(chosen.stdout, /^ {2}eval\/accuracy {2}0\.9667 /m);
  assert.doesNotMatch(chosen.stdout, /fast|train\/loss/);
  for (const args of [
    ["--project", "other"],
    ["--run", "other"],
    ["--metric", "other"],
  ]) {
    const nothing = await show(...args);
    assert.deepEqual([nothing.code, nothing.stdout], [2, ""]);
    assert.match(nothing.stderr, /has no such metrics\n.*without --project, --run and --metric/s);
  }
  assert.match((await user.run(["metrics", "--folder", "/nowhere"])).stderr, /There is no folder "\/nowhere"/);
  assert.match((await show("first")).stderr, /exclude each other/);
});

test("what cannot be read is named, the rest is shown, and nothing reaches the terminal's controls", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using user = await User.create();
  await using folder = await temporaryFolder();
  await python(newest, folder.path, twoRuns);
  const make = (name: string, sql: string) => {
    const db = new DatabaseSync(join(folder.path, name));
    db.exec(sql);
    db.close();
  };
  const table = `CREATE TABLE metrics (id INTEGER PRIMARY KEY, run_id TEXT, timestamp TEXT, run_name TEXT, step INTEGER,
    log_id TEXT, metrics TEXT);`;
  const evil = "\x1b]0;title\x07\x1b[2J\u202e\n\u009b31mevil";
  const named = JSON.stringify({ [evil]: evil, "a\u0000": 1 });
  make(
    "evil.db",
    `${table} INSERT INTO metrics VALUES (1, '${evil}', '${evil}', '${evil}', 0, 'a', '${named}'),
      (2, '${evil}', '${evil}', '${evil}', 1, 'b', '${named}')`,
  );
  // names that every JavaScript object knows
  for (const name of ["__proto__", "constructor"])
    make(`${name}.db`, `${table} INSERT INTO metrics VALUES (1, 'r', 't', 'r', 0, 'a', '{"a":1}')`);
  mkdirSync(join(folder.path, "inbox", "w"), { recursive: true });
  const row = {
    kind: "metric",
    project: "toString",
    run: evil,
    timestamp: "t",
    step: 1,
    log_id: "x",
    metrics: { [evil]: 1 },
  };
  writeFileSync(join(folder.path, "inbox", "w", "00000001.jsonl"), `${JSON.stringify(row)}\nrubbish\n`);
  symlinkSync("/etc/passwd", join(folder.path, "link.db"));
  execFileSync("mkfifo", [join(folder.path, "fifo.db")]);
  writeFileSync(join(folder.path, "rubbish.db"), "x".repeat(8192));
  make("view.db", "CREATE TABLE t (a); CREATE VIEW metrics AS SELECT * FROM t");
  writeFileSync(join(folder.path, `${evil}.db`), "");
  const { code, stdout } = await user.run(["metrics", "--folder", folder.path]);
  assert.equal(code, 2);
  for (const words of [
    /^✗ rubbish cannot be read: .*not a database/m,
    /^✗ view cannot be read: .*not a plain table/m,
  ]) {
    assert.match(stdout, words);
  }
  assert.match(stdout, /^✗ link\.db: it is not a regular file\n/m);
  for (const shown of ["myproject", "evil", "__proto__", "constructor", "toString"]) {
    assert.match(stdout, new RegExp(`^${shown}  \\d run`, "m"));
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are looked for
  assert.doesNotMatch(stdout, /[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/);
  const json = await user.run(["metrics", "--folder", folder.path, "--json"]);
  assert.equal(json.code, 2);
  assert.match(json.stderr, /rubbish cannot be read/);
  const runs = json.stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as { project: string; latest: object });
  assert.deepEqual(runs.find(({ project }) => project === "evil")?.latest, { "\nevil": "\nevil", a: 1 });
  assert.doesNotMatch(json.stdout, /\\u00[01]|[\x7f-\x9f\u202e]/);
});

test("--follow says again what has changed, until it is interrupted", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using user = await User.create();
  await using folder = await temporaryFolder();
  const child = user.start(["metrics", "--folder", folder.path, "--follow"]);
  const lines = user.start(["metrics", "--folder", folder.path, "--follow", "--json"]);
  for (const each of [child, lines]) context.after(() => each.kill("SIGKILL"));
  const [text, json] = [reading(child), reading(lines)];
  await text.sees(/has no metrics yet/);
  await python(newest, folder.path, twoRuns);
  await text.sees(/2 runs · 60 rows/);
  await json.sees(/"run":"slow".*"rows":30/);
  await python(newest, folder.path, oneMore);
  await text.sees(/3 runs · 61 rows/);
  await json.sees(/"run":"third","runId":"\w+","rows":1,/);
  child.kill("SIGINT");
  lines.kill("SIGTERM");
  assert.deepEqual(await Promise.all([text.exited, json.exited]), [0, 143]);
  // a run that has not changed is not said again
  assert.equal(json.all().match(/"run":"slow".*"rows":30/g)?.length, 1);
});

test("at a terminal, --follow draws in place, and leaves the last picture behind", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using user = await User.create();
  await using folder = await temporaryFolder();
  await python(newest, folder.path, twoRuns);
  const terminal = atTerminal(user, context, {}, "metrics", "--folder", folder.path, "-f");
  await terminal.sees(/\[\?1049h.*60 rows.*\[36m━━.\[39m fast.*more lines/su);
  await python(newest, folder.path, oneMore);
  await terminal.sees(/\[H.*61 rows/s);
  terminal.child.stdin?.write("\u0003");
  assert.equal(await terminal.exited, 0);
  const [, left = ""] = terminal.all().split("\x1b[?1049l");
  assert.match(left, /61 rows.*train\/loss.*eval\/accuracy.*└─+/s);
  const uncolored = atTerminal(user, context, { NO_COLOR: "1" }, "metrics", "--folder", folder.path);
  await uncolored.exited;
  assert.match(uncolored.all(), /3 runs · 61 rows/);
  assert.ok(!uncolored.all().includes("\x1b"));
});

interface Reading {
  /** the exit code */
  exited: Promise<number | null>;
  all(): string;
  /** Waits for words behind those that were waited for last. */
  sees(words: RegExp): Promise<void>;
}

function reading(child: ChildProcess): Reading {
  let text = "";
  let from = 0;
  let wake = () => {};
  child.stdout?.setEncoding("utf8").on("data", (chunk) => {
    text += chunk;
    wake();
  });
  return {
    exited: new Promise((resolve) => child.once("close", resolve)),
    all: () => text,
    async sees(words) {
      const tooLate = Promise.withResolvers<never>();
      const timer = setTimeout(() => tooLate.reject(new Error(`No ${words} in ${JSON.stringify(text)}`)), deadlineMs);
      try {
        for (let match = words.exec(text.slice(from)); ; match = words.exec(text.slice(from))) {
          if (match) {
            from += match.index + match[0].length;
            return;
          }
          const more = Promise.withResolvers<void>();
          wake = more.resolve;
          await Promise.race([more.promise, tooLate.promise]);
        }
      } finally {
        clearTimeout(timer);
      }
    },
  };
}

function atTerminal(user: User, context: TestContext, env: Record<string, string>, ...argv: string[]) {
  const child = spawn("python3", ["-c", pseudoTerminal, "sh", "-c", sized, "sh", process.execPath, binPath, ...argv], {
    env: { ...user.environment(), TERM: "xterm-256color", ...env },
    cwd: user.home,
    stdio: ["pipe", "pipe", "inherit"],
  });
  context.after(() => child.kill("SIGKILL"));
  return { child, ...reading(child) };
}
