/** The publisher beside a real trackio that writes: every copy is whole, and in the end nothing is missing. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { startScriptedApi } from "../../src/demo/scripted-api.ts";
import { echo } from "../../src/demo/scripts/echo.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { startPython } from "../syncer/python-process.ts";
import { busyProgram, isInstalled, newest, quiet, rowsOf } from "../syncer/runs.ts";
import { python } from "../syncer/trackio.ts";
import { RunningDaemon } from "./running-daemon.ts";

const program = join(import.meta.dirname, "../../src/agent/publisher/publisher-main.ts");

interface RunningPublisher extends AsyncDisposable {
  process: ChildProcess;
  problems: string[];
  /** ends it politely: it publishes once more */
  stop(): Promise<void>;
}

async function startPublisher(from: string, to: string): Promise<RunningPublisher> {
  const child = spawn(process.execPath, [program, from, to], { stdio: ["pipe", "pipe", "inherit"] });
  const problems: string[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  createInterface({ input: child.stdout }).on("line", (line) => {
    const { restored, problem } = JSON.parse(line) as { restored?: number; problem?: string };
    if (restored !== undefined) resolve();
    if (problem !== undefined) problems.push(problem);
  });
  const exited = once(child, "exit");
  await Promise.race([promise, exited]);
  return {
    process: child,
    problems,
    async stop() {
      child.stdin.end();
      assert.deepEqual(await exited, [0, null]);
    },
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await exited;
    },
  };
}

async function folders() {
  const folder = await temporaryFolder();
  const from = join(folder.path, "from");
  const to = join(folder.path, "to");
  for (const path of [from, to]) mkdirSync(path);
  return { from, to, [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose]() };
}

function countOf(path: string): number {
  const db = new DatabaseSync(path, { readOnly: true });
  try {
    assert.equal(db.prepare("PRAGMA integrity_check").get()?.["integrity_check"], "ok");
    return Number(db.prepare("SELECT COUNT(*) AS n FROM metrics").get()?.["n"]);
  } finally {
    db.close();
  }
}

/** Two writers of one project, each of which says a line a round. */
const writer = (name: string) => `
trackio.init(project="p", name="${name}", ${quiet})
import sys, time
for line in sys.stdin:
    for i in range(50): trackio.log({"loss": 1 / (i + 1), "word": "x" * 500})
    print("logged", flush=True)
trackio.finish()
`;

test("copies taken while two writers log are whole, never go back, and in the end equal", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using place = await folders();
  await using publisher = await startPublisher(place.from, place.to);
  await using one = startPython(newest, place.from, writer("one"));
  await using two = startPython(newest, place.from, writer("two"));
  const copy = join(place.to, "p.db");
  let seen = 0;
  let copies = 0;
  for (let round = 0; round < 30 || copies < 4; round += 1) {
    await Promise.all([one.ask("go"), two.ask("go")]);
    if (!existsSync(copy)) continue;
    const count = countOf(copy);
    assert.ok(count >= seen, `${count} rows after ${seen}`);
    if (count > seen) copies += 1;
    seen = count;
  }
  await Promise.all([one.end(), two.end()]);
  await publisher.stop();
  assert.deepEqual(publisher.problems, []);
  assert.deepEqual(rowsOf(copy), rowsOf(join(place.from, "p.db")));
  assert.ok(countOf(copy) > seen);
});

test("rows that only the log beside the database has are published, also those of a writer that was killed", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using place = await folders();
  await using killed = startPython(newest, place.from, writer("killed"));
  await killed.ask("go");
  const isMade = () => existsSync(join(place.from, "p.db")) && countOf(join(place.from, "p.db")) > 0;
  await until(() => quietly(isMade));
  // a second connection keeps the log from being folded into the database
  const db = new DatabaseSync(join(place.from, "p.db"), { timeout: 600_000 });
  const count = () => Number(db.prepare("SELECT COUNT(*) AS n FROM metrics").get()?.["n"]);
  const before = count();
  await killed.ask("go");
  await until(() => count() > before && statSync(join(place.from, "p.db-wal")).size > 0);
  killed.process.kill("SIGKILL");
  await killed.exited;
  const rows = count();
  {
    await using publisher = await startPublisher(place.from, place.to);
    await publisher.stop();
  }
  db.close();
  assert.ok(rows > 0);
  assert.equal(countOf(join(place.to, "p.db")), rows);
});

test("media, artifacts and JSON lines lie beside the databases, whole; links are left out", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using place = await folders();
  const artifact = `
path = os.path.join(os.environ["HOME"], "model.bin"); open(path, "wb").write(b"m" * 100_000)
run = trackio.init(project="second", name="stores", ${quiet})
trackio.log({"loss": 1})
trackio.log_artifact(path, name="model", type="model")
trackio.finish()
`;
  await python(newest, place.from, busyProgram + artifact);
  await python(newest, place.from, `trackio.init(project="lines", ${quiet}); trackio.log({"a": 1}); trackio.finish()`, {
    TRACKIO_STORAGE_MODE: "jsonl",
  });
  symlinkSync("/etc/passwd", join(place.from, "link.db"));
  symlinkSync("/etc", join(place.from, "media/etc"));
  writeFileSync(join(place.from, "artifacts/x.partial.1"), "half");
  await using publisher = await startPublisher(place.from, place.to);
  await publisher.stop();
  assert.deepEqual(publisher.problems, []);
  const listed = (folder: string) =>
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\/(media|artifacts|inbox)(\/|$)/.test(entry.parentPath))
      .map((entry) => join(entry.parentPath, entry.name).slice(folder.length))
      .filter((path) => !path.includes(".partial") && !path.startsWith("/media/etc/"))
      .sort();
  const files = listed(place.from);
  assert.deepEqual(listed(place.to), files);
  for (const kind of ["media", "artifacts", "inbox"])
    assert.ok(
      files.some((path) => path.startsWith(`/${kind}`)),
      kind,
    );
  for (const path of files) assert.deepEqual(readFileSync(place.to + path), readFileSync(place.from + path));
  assert.ok(!existsSync(join(place.to, "link.db")) && !existsSync(join(place.to, "media/etc")));
  assert.deepEqual(rowsOf(join(place.to, "second.db")), rowsOf(join(place.from, "second.db")));
});

test("a new trackio folder gets what was published; what is there stays, and drafts go", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using place = await folders();
  await python(newest, place.from, busyProgram);
  {
    await using publisher = await startPublisher(place.from, place.to);
    await publisher.stop();
  }
  const next = join(place.from, "../next");
  mkdirSync(next);
  const more = `trackio.init(project="third", name="mine", ${quiet}); trackio.log({"a": 1}); trackio.finish()`;
  await python(newest, next, more);
  const mine = rowsOf(join(next, "third.db"));
  writeFileSync(join(place.to, ".modal-sb-draft-p.db"), "half");
  await using publisher = await startPublisher(next, place.to);
  assert.deepEqual(rowsOf(join(next, "second.db")), rowsOf(join(place.from, "second.db")));
  assert.deepEqual(rowsOf(join(next, "third.db")), mine);
  assert.ok(!existsSync(join(place.to, ".modal-sb-draft-p.db")));
  assert.equal(
    readdirSync(join(next, "media"), { recursive: true }).filter((name) => String(name).endsWith(".png")).length,
    3,
  );
  // a run that was restored goes on, and is published again
  const resumed = `trackio.init(project="second", name="run", resume="must", ${quiet}); trackio.log({"a": 1}); trackio.finish()`;
  await python(newest, next, resumed);
  await publisher.stop();
  assert.deepEqual(rowsOf(join(place.to, "second.db")), rowsOf(join(next, "second.db")));
});

test("a database that cannot be published is named once, and the others go on", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using place = await folders();
  writeFileSync(join(place.from, "rubbish.db"), "x".repeat(10_000));
  await python(newest, place.from, `trackio.init(project="p", ${quiet}); trackio.log({"a": 1}); trackio.finish()`);
  await using publisher = await startPublisher(place.from, place.to);
  await until(() => existsSync(join(place.to, "p.db")));
  await publisher.stop();
  assert.equal(publisher.problems.length, 1);
  assert.match(publisher.problems[0] ?? "", /^rubbish\.db cannot be published: /);
  assert.deepEqual(readdirSync(place.to), ["p.db"]);
});

test("the daemon publishes what trackio writes, restores before the first message, and publishes at its end", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using place = await folders();
  await using home = await temporaryFolder();
  await using api = await startScriptedApi({ script: echo() });
  const start = (trackio: string) =>
    RunningDaemon.start({
      folder: home.path,
      origin: api.origin,
      env: { TRACKIO_DIR: trackio },
      metricsFolder: place.to,
    });
  const log = (project: string) =>
    `trackio.init(project="${project}", ${quiet}); trackio.log({"a": 1}); trackio.finish()`;
  {
    await using daemon = await start(place.from);
    await daemon.attach();
    await python(newest, place.from, log("seen"));
    await until(() => existsSync(join(place.to, "seen.db")));
    await python(newest, place.from, log("last"));
    assert.equal(await daemon.end(), 0);
    assert.deepEqual(rowsOf(join(place.to, "last.db")), rowsOf(join(place.from, "last.db")));
  }
  const next = join(place.from, "../next");
  await using daemon = await start(next);
  await using client = await daemon.attach();
  await client.say("hello").end;
  assert.deepEqual(
    readdirSync(next)
      .filter((name) => name.endsWith(".db"))
      .sort(),
    ["last.db", "seen.db"],
  );
});

test("JSON lines alone are brought back before the first message, too", async () => {
  await using place = await folders();
  await using home = await temporaryFolder();
  await using api = await startScriptedApi({ script: echo() });
  mkdirSync(join(place.to, "inbox/w"), { recursive: true });
  writeFileSync(join(place.to, "inbox/w/00000000.jsonl"), "{}\n");
  const next = join(place.from, "../next");
  const env = { TRACKIO_DIR: next };
  await using daemon = await RunningDaemon.start({
    folder: home.path,
    origin: api.origin,
    env,
    metricsFolder: place.to,
  });
  await using client = await daemon.attach();
  await client.say("hello").end;
  assert.equal(readFileSync(join(next, "inbox/w/00000000.jsonl"), "utf8"), "{}\n");
});

test("a turn that waits for the metrics to be brought back can be interrupted", async () => {
  await using place = await folders();
  await using api = await startScriptedApi({ script: echo() });
  mkdirSync(join(place.to, "inbox/w"), { recursive: true });
  writeFileSync(join(place.to, "inbox/w/00000000.jsonl"), "{}\n");
  // until the publisher is caught before it has brought them back
  for (let isCaught = false; !isCaught; ) {
    await using home = await temporaryFolder();
    await using daemon = await RunningDaemon.start({
      folder: home.path,
      origin: api.origin,
      env: { TRACKIO_DIR: join(home.path, "trackio") },
      metricsFolder: place.to,
    });
    const publisher = await until(() => publisherOf(daemon.process.pid));
    process.kill(publisher, "SIGSTOP");
    await using client = await daemon.attach();
    const { turnId, end } = client.say("!hang");
    const fits = (event: { turnId: string }) => event.turnId === turnId;
    const first = await Promise.race([client.waitFor("turn_queued", fits), client.waitFor("turn_started", fits)]);
    isCaught = first.type === "turn_queued";
    client.send({ type: "interrupt", turnId });
    assert.equal((await end).result, "interrupted");
    if (isCaught) assert.deepEqual(api.requests, []);
    process.kill(publisher, "SIGCONT");
    assert.equal((await client.say("hello").end).result, "success");
  }
});

/** undefined: the daemon has not started it yet. */
function publisherOf(daemon: number | undefined): number | undefined {
  const children = readFileSync(`/proc/${daemon}/task/${daemon}/children`, "utf8").trim().split(" ").map(Number);
  return children.find((pid) => pid > 0 && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("publisher-main"));
}

/** Waits for what `find` finds, or until the condition holds; the test's own limit ends a wait that never does. */
async function until<Found>(find: () => Found): Promise<NonNullable<Found>> {
  for (;;) {
    const found = find();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** False while trackio is making the tables. */
function quietly(holds: () => boolean): boolean {
  try {
    return holds();
  } catch {
    return false;
  }
}
