/** setup_trackio.py with the real trackio, without a token and without a network. */
import assert from "node:assert/strict";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { isSpaceId } from "../../src/syncer/destinations.ts";
import { listFolder } from "../../src/syncer/trackio-folder.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { isInstalled, newest } from "../syncer/runs.ts";
import { environmentOf, type Version, versions } from "../syncer/trackio.ts";
import { answerOf, foldersIn, pythonInside, setupScript } from "./inside.ts";

const packagesOf = (version: Version) => environmentOf(version, "")["PYTHONPATH"];

test("the script is Python 3.10, and imports the standard library and trackio", async () => {
  await using folder = await temporaryFolder();
  const code = `
import ast, json, sys
tree = ast.parse(open(${JSON.stringify(setupScript)}).read(), feature_version=(3, 10))
nodes = list(ast.walk(tree))
names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
print(json.dumps(sorted(name for name in names if name not in sys.stdlib_module_names)))`;
  assert.deepEqual(await answerOf({ folder: folder.path, packages: undefined }, code), ["trackio"]);
});

const badProjects = [
  "",
  " ",
  "a b",
  "a/b",
  "../a",
  ".a",
  "-a",
  "_a",
  "ä",
  "a.b",
  "a\n",
  "a\0",
  "x".repeat(101),
  7,
  null,
  ["a"],
];
const reserved = ["registry-models", "a_system", "a_configs", "a_traces", "a_artifacts", "a_artifact_versions"];
const badSpaces = [
  "",
  "metrics",
  "acme/",
  "/metrics",
  "acme/a/b",
  "https://huggingface.co/spaces/acme/metrics",
  "acme/metrics\n",
];

test("arguments that cannot be used are refused with a reason, and nothing is made", async () => {
  await using folder = await temporaryFolder();
  const spaces = [...badSpaces, "-acme/metrics", "acme/.metrics", "acme.org/metrics", "ä/b", `a/${"x".repeat(97)}`];
  assert.deepEqual(spaces.filter(isSpaceId), [], "the syncer takes none of them either");
  const all = [
    ...[...badProjects, ...reserved].map((project) => [project]),
    ...[...spaces, 7, ["a/b"]].map((space) => ["project", space]),
  ];
  const code = `
import json
from setup_trackio import setup_trackio
def refusal(arguments):
    try: return f"made {setup_trackio(*arguments)}"
    except ValueError as error: return str(error)
print(json.dumps([refusal(each) for each in json.loads(${JSON.stringify(JSON.stringify(all))})]))`;
  const refusals = (await answerOf({ folder: folder.path, packages: undefined }, code)) as string[];
  for (const [index, refusal] of refusals.entries()) {
    const expected = index < badProjects.length + reserved.length ? /^project must / : /^space_id must be /;
    assert.match(refusal, expected, JSON.stringify(all[index]));
  }
  assert.deepEqual(readdirSync(folder.path), []);
});

test("without trackio it says how to install it, and nothing is made", async () => {
  await using folder = await temporaryFolder();
  const setting = { folder: folder.path, packages: undefined };
  const { code, stdout, stderr } = await pythonInside(setting, ["-S", setupScript, "project", "acme/metrics"]);
  assert.deepEqual([code, stdout], [1, ""]);
  assert.equal(stderr, `setup_trackio.py: trackio is not installed: pip install trackio==${newest}\n`);
  assert.deepEqual(readdirSync(folder.path), []);
});

/** Counts what Python itself would send into a network. */
const watched = `
import json, os, sys
calls = []
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"): calls.append(f"{event} {arguments}")
sys.addaudithook(watch)
`;

/** What an agent's program may do wrong: name Spaces and servers, and begin the run a second time, as the Trainer does. */
const busyRun = `${watched}
os.environ["TRACKIO_SPACE_ID"] = "acme/elsewhere"
os.environ["TRACKIO_SERVER_URL"] = "http://192.0.2.1:7860/?write_token=x"
from setup_trackio import setup_trackio
run_dir = setup_trackio("project", "acme/metrics")
import trackio
begun = trackio.context_vars.current_run.get()
trackio.log_system({"gpu": 1})
assert trackio.init("project", run_dir.name, None, "trackio", bucket_id="acme/bucket", resume="allow", private=None) is begun
assert trackio.init(project="project", name=run_dir.name, config={"lr": 0.1}) is begun
trackio.config.update({"seed": 1}, allow_val_change=True)
assert (begun.config["lr"], begun.config["seed"]) == (0.1, 1)
trackio.log({"loss": 2}); trackio.log({"loss": 1}); trackio.log_system({"gpu": 2})
os.environ["TRACKIO_SPACE_ID"] = "acme/elsewhere"
trackio.init(project="project", name=run_dir.name, server_url="http://192.0.2.1:7860/", resume="allow", config={"lr": 0.2})
trackio.log({"loss": 0.5})
trackio.finish()
import contextlib, sqlite3
with contextlib.closing(sqlite3.connect(os.environ["TRACKIO_DIR"] + "/project.db")) as db:
    assert json.loads(db.execute("SELECT config FROM configs").fetchone()[0])["lr"] == 0.2
trackio.init(project="project", name=run_dir.name, space_id="acme/metrics", dataset_id="acme/data", resume="must", config={"lr": 0.3})
trackio.log({"loss": 0.25})
trackio.finish()
print(json.dumps({"runDir": str(run_dir), "calls": calls}))`;

for (const version of Object.keys(versions) as Version[]) {
  test(`a run of trackio ${version} stays in the sandbox, whole and one`, async (context) => {
    if (!(await isInstalled(version, context))) return;
    await using folder = await temporaryFolder();
    const { data, trackio, databases } = foldersIn(folder.path);
    const setting = { folder: folder.path, packages: packagesOf(version) };
    const { runDir, calls } = (await answerOf(setting, busyRun)) as { runDir: string; calls: string[] };
    assert.deepEqual(calls, []);
    assert.equal(dirname(runDir), join(data, "runs"));
    assert.match(basename(runDir), /^project-\d{8}-\d{6}$/);
    assert.deepEqual(readdirSync(runDir), ["checkpoint"]);
    const { spaceId, spaceIds, problems } = listFolder(trackio);
    assert.deepEqual([spaceId, [...spaceIds], problems.size], ["acme/metrics", [["project", "acme/metrics"]], 0]);
    assert.deepEqual(
      listFolder(databases).databases.map(({ project }) => project),
      ["project"],
    );
    const { metrics, system_metrics, configs } = tablesOf(join(databases, "project.db"));
    const rows = metrics.map(({ step, values }) => [step, values]);
    assert.deepEqual(
      rows,
      [2, 1, 0.5, 0.25].map((loss, step) => [step, { loss }]),
    );
    assert.deepEqual(
      system_metrics.map(({ values }) => values),
      [{ gpu: 1 }, { gpu: 2 }],
    );
    const runs = new Set(
      [...metrics, ...system_metrics, ...configs].map(({ run_id, run_name }) => `${run_id} ${run_name}`),
    );
    assert.equal(runs.size, 1);
    assert.equal(metrics[0]?.run_name, basename(runDir));
    assert.equal(configs[0]?.values["lr"], 0.3);
  });

  test(`trackio ${version} reserves no name that the script lets pass`, async (context) => {
    if (!(await isInstalled(version, context))) return;
    await using folder = await temporaryFolder();
    const code = `
import json, setup_trackio
from trackio.sqlite_storage import SQLiteStorage
from trackio.utils import REGISTRY_PROJECT_PREFIX as prefix
tables = ["system", "configs", "traces", *SQLiteStorage._ARTIFACT_PARQUET_TABLES]
unknown = [table for table in tables if f"_{table}" not in setup_trackio.RESERVED_SUFFIXES]
for suffix in setup_trackio.RESERVED_SUFFIXES[:6]:
    try: SQLiteStorage.validate_project_name(f"a{suffix}"); unknown.append(f"allowed: {suffix}")
    except ValueError: pass
print(json.dumps([unknown, prefix == setup_trackio.RESERVED_PREFIX]))`;
    const setting = { folder: folder.path, packages: packagesOf(version) };
    assert.deepEqual(await answerOf(setting, code), [[], true]);
  });
}

test("the first Space is that of projects that name none; each project keeps its own", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using folder = await temporaryFolder();
  const { trackio } = foldersIn(folder.path);
  const setting = { folder: folder.path, packages: packagesOf(newest) };
  const setup = (calls: string) =>
    answerOf(
      setting,
      `from setup_trackio import setup_trackio\n${calls}\nimport trackio; trackio.finish(); print("null")`,
    );
  await setup(`setup_trackio("nowhere")`);
  assert.equal(existsSync(trackio), false);
  await setup(`setup_trackio("first", "acme/first"); setup_trackio("second", "other/second"); setup_trackio("first")`);
  const { spaceId, spaceIds } = listFolder(trackio);
  assert.equal(spaceId, "acme/first");
  assert.deepEqual(
    [...spaceIds],
    [
      ["first", "acme/first"],
      ["second", "other/second"],
    ],
  );
  const paths = ["space_id", "spaces/first"].map((name) => join(trackio, name));
  assert.deepEqual(
    paths.map((path) => statSync(path).mode & 0o777),
    [0o644, 0o644],
  );
  // whoever has the file open still reads the old word, whole: the new one is another file
  const descriptor = openSync(join(trackio, "spaces/first"), "r");
  await setup(`setup_trackio("first", "acme/moved")`);
  assert.equal(readFileSync(descriptor, "utf8"), "acme/first\n");
  closeSync(descriptor);
  const after = listFolder(trackio);
  assert.deepEqual([after.spaceId, after.spaceIds.get("first")], ["acme/first", "acme/moved"]);
  assert.deepEqual(readdirSync(trackio).sort(), ["space_id", "spaces"]);
  assert.deepEqual(readdirSync(join(trackio, "spaces")).sort(), ["first", "second"]);
});

test("as a command it prints the folder; runs that begin in the same second get folders of their own", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using folder = await temporaryFolder();
  const clock = join(folder.path, "clock");
  mkdirSync(clock);
  // Python runs it at its start: all processes have the same second
  writeFileSync(
    join(clock, "sitecustomize.py"),
    "import time\nmoment = time.struct_time((2026, 1, 2, 3, 4, 5, 4, 2, 0))\ntime.gmtime = lambda *_: moment\n",
  );
  const setting = { folder: folder.path, packages: `${packagesOf(newest)}:${clock}` };
  const outcomes = await Promise.all(
    [1, 2, 3].map(() => pythonInside(setting, [setupScript, "project", "acme/metrics"])),
  );
  for (const { code, stderr } of outcomes) assert.equal(code, 0, stderr);
  const runs = join(foldersIn(folder.path).data, "runs");
  const expected = ["", "-2", "-3"].map((end) => `${runs}/project-20260102-030405${end}`);
  assert.deepEqual(
    outcomes.map(({ stdout }) => stdout).sort(),
    expected.map((path) => `${path}\n`),
  );
  for (const path of expected) assert.deepEqual(readdirSync(path), ["checkpoint"]);
  const { spaceId, spaceIds } = listFolder(foldersIn(folder.path).trackio);
  assert.deepEqual([spaceId, [...spaceIds]], ["acme/metrics", [["project", "acme/metrics"]]]);
});

test("as a command it ends with 2 and the reason when an argument is wrong, and explains itself", async () => {
  await using folder = await temporaryFolder();
  const setting = { folder: folder.path, packages: undefined };
  for (const argv of [["a b"], ["project", "https://huggingface.co/spaces/acme/metrics"], [], ["a", "b/c", "d"]]) {
    const { code, stdout, stderr } = await pythonInside(setting, [setupScript, ...argv]);
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(stderr, /^usage: .*\nsetup_trackio\.py: error: \w.*\n$/);
  }
  const help = await pythonInside(setting, [setupScript, "--help"]);
  assert.deepEqual([help.code, help.stderr], [0, ""]);
  assert.match(help.stdout, /owner\/name/);
  assert.deepEqual(readdirSync(folder.path), []);
});

interface Row {
  run_id: string;
  run_name: string;
  step?: number;
  values: Record<string, unknown>;
}

function tablesOf(path: string): { metrics: Row[]; system_metrics: Row[]; configs: Row[] } {
  const db = new DatabaseSync(path, { readOnly: true });
  const rows = (table: string, column: string): Row[] =>
    db
      .prepare(`SELECT *, CAST(${column} AS TEXT) AS text FROM ${table} ORDER BY id`)
      .all()
      .map((row) => ({ ...(row as unknown as Row), values: JSON.parse(String(row["text"])) }));
  try {
    return {
      metrics: rows("metrics", "metrics"),
      system_metrics: rows("system_metrics", "metrics"),
      configs: rows("configs", "config"),
    };
  } finally {
    db.close();
  }
}
