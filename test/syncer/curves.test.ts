/** What the reader gives of a project's runs: with the real trackio as the writer, and with files of somebody hostile. */
import assert from "node:assert/strict";
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type TestContext, test } from "node:test";
import type { CurvesRequest, ProjectCurves } from "../../src/syncer/curves.ts";
import { Reader } from "../../src/syncer/reader.ts";
import { type CurvePoint, Thinned } from "../../src/syncer/thinning.ts";
import { listFolder } from "../../src/syncer/trackio-folder.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { busyProgram, isInstalled, newest, quiet } from "./runs.ts";
import { python, type Version, versions } from "./trackio.ts";

async function curvesOf(folder: string, project: string, changes: Partial<CurvesRequest> = {}): Promise<ProjectCurves> {
  using reader = new Reader();
  const { databases, fragments } = listFolder(folder);
  const path = databases.find((database) => database.project === project)?.path;
  const own = (await reader.fragmentsByProject(fragments))[project] ?? [];
  const limits = { columns: 100, runs: [], metrics: [] } as const;
  return await reader.curves({ project, path, access: "live", fragments: own, ...limits, ...changes });
}

function metricsTable(rows: string): string {
  return `CREATE TABLE metrics (id INTEGER PRIMARY KEY, run_id TEXT, timestamp TEXT, run_name TEXT, step INTEGER,
    log_id TEXT, metrics TEXT);
    INSERT INTO metrics (run_id, timestamp, run_name, step, log_id, metrics) ${rows}`;
}

function makeDatabase(path: string, sql: string): void {
  const db = new DatabaseSync(path);
  db.exec(sql);
  db.close();
}

async function valuesOfAllKinds(version: Version, context: TestContext): Promise<void> {
  if (!(await isInstalled(version, context))) return;
  await using folder = await temporaryFolder();
  await python(version, folder.path, busyProgram);
  const { runs, alerts, leftOut } = await curvesOf(folder.path, "firstone");
  const [run] = runs;
  assert.ok(run);
  assert.deepEqual([runs.length, run.run, run.rows, run.firstStep, run.lastStep], [1, "run", 44, 0, 500]);
  assert.match(run.lastTimestamp ?? "", /^\d{4}-\d\d-\d\dT/);
  assert.partialDeepStrictEqual(JSON.parse(run.config ?? ""), { lr: 0.1, names: ["a", "ü"] });
  const of = (name: string) => run.metrics.find((series) => series.name === name);
  // traces stand in a table of their own
  assert.deepEqual(
    run.metrics.map(({ name, latest }) => [name, latest]),
    [
      ...[
        ["loss", 3],
        ["nan", "NaN"],
        ["inf", "-Infinity"],
        ["deep/a/b", 39],
        ["word", "x"],
        ["big", 2 ** 60],
        ["tiny", 1e-300],
      ],
      ...[["image", "(image)"]],
    ],
  );
  const { numbers, gaps, least, most, points } = of("loss") ?? assert.fail();
  assert.deepEqual([numbers, gaps, least, most], [41, 0, 1 / 40, 3]);
  assert.deepEqual(points?.slice(0, 2), [
    [0, 1],
    [1, 1 / 2],
  ]);
  assert.deepEqual(points?.at(-1), [41, 3]);
  assert.deepEqual([of("nan")?.numbers, of("nan")?.gaps, of("nan")?.least, of("nan")?.most], [0, 40, null, null]);
  assert.deepEqual(of("nan")?.points?.[7], [7, null]);
  assert.deepEqual([of("word")?.numbers, of("word")?.points], [0, null]);
  assert.deepEqual([run.system[0]?.name, run.system[0]?.latest, run.system[0]?.points?.length], ["gpu", 0.5, 1]);
  assert.deepEqual([run.alerts, alerts], [1, [{ run: "run", level: "warn", title: "careful", step: 500 }]]);
  assert.deepEqual(leftOut, { runs: 0, rows: 0, unusable: 0, values: 0 });
}

for (const version of Object.keys(versions) as Version[]) {
  test(`values of all kinds come as trackio ${version} logs them`, (context) => valuesOfAllKinds(version, context));
}

test("runs and metrics can be chosen, and a metric's name stands for those below it", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using folder = await temporaryFolder();
  await python(
    newest,
    folder.path,
    `for name in ("one", "two", "three"):
    trackio.init(project="p", name=name, ${quiet})
    trackio.log({"eval": {"loss": 1, "acc": 2}, "evaluation": 3, "loss": 4})
    trackio.finish()`,
  );
  const all = await curvesOf(folder.path, "p");
  const namesOf = ({ runs }: ProjectCurves) => runs.map(({ run, metrics }) => [run, metrics.map(({ name }) => name)]);
  assert.deepEqual(
    all.runs.map(({ run }) => run),
    ["three", "two", "one"],
  );
  const byId = await curvesOf(folder.path, "p", { runs: ["two", all.runs[2]?.runId ?? ""], metrics: ["eval", "loss"] });
  assert.deepEqual(namesOf(byId), [
    ["two", ["eval/loss", "eval/acc", "loss"]],
    ["one", ["eval/loss", "eval/acc", "loss"]],
  ]);
});

test("fragments count like rows, and once when trackio has imported them", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using folder = await temporaryFolder();
  const program = `
trackio.init(project="my project", name="run", config={"lr": 1}, ${quiet})
for i in range(20): trackio.log({"loss": i})
trackio.alert(title="careful", level=trackio.AlertLevel.ERROR)
trackio.log_system({"gpu": 1})
trackio.finish()`;
  await python(newest, folder.path, program, { TRACKIO_STORAGE_MODE: "jsonl" });
  assert.deepEqual(listFolder(folder.path).databases, []);
  const fragments = await curvesOf(folder.path, "myproject");
  const [run] = fragments.runs;
  assert.deepEqual([run?.run, run?.rows, run?.lastStep, run?.alerts], ["run", 20, 19, 1]);
  assert.partialDeepStrictEqual(JSON.parse(run?.config ?? ""), { lr: 1 });
  assert.deepEqual([run?.metrics[0]?.numbers, run?.system[0]?.latest], [20, 1]);
  // a copy of the inbox stays while trackio takes in its own
  cpSync(join(folder.path, "inbox"), join(folder.path, "kept"), { recursive: true });
  await python(newest, folder.path, "from trackio.fragments import import_inbox_dir; assert import_inbox_dir() > 0");
  cpSync(join(folder.path, "kept"), join(folder.path, "inbox"), { recursive: true });
  assert.equal(listFolder(folder.path).databases.length, 1);
  const both = await curvesOf(folder.path, "myproject");
  assert.equal(listFolder(folder.path).fragments.length > 0, true);
  assert.deepEqual([both.runs.length, both.runs[0]?.rows, both.runs[0]?.alerts], [1, 20, 1]);
  assert.deepEqual(both.runs[0]?.metrics, run?.metrics);
});

test("a thinned curve keeps its extremes, its gaps and its end, in few points", () => {
  const curve = new Thinned(100);
  for (let x = 0; x < 1_000_000; x += 1) {
    const isGap = x >= 500_000 && x < 600_000;
    curve.add(x, isGap ? null : x === 123_456 ? 99 : x === 234_567 ? -99 : Math.sin(x));
  }
  const points = curve.points();
  assert.ok(points.length <= 401, `${points.length} points`);
  for (const kept of [
    [123_456, 99],
    [234_567, -99],
    [999_999, Math.sin(999_999)],
  ] satisfies CurvePoint[]) {
    assert.ok(
      points.some(([x, y]) => x === kept[0] && y === kept[1]),
      `${kept}`,
    );
  }
  assert.ok(points.some(([x, y]) => x > 500_000 && x < 600_000 && y === null));
  // steps far apart neither fill the memory nor take the rest its place
  curve.add(2 ** 62, 1);
  assert.ok(curve.points().length <= 401);
  assert.ok(curve.points().some(([x]) => x === 123_456));
});

test("a hundred thousand rows and very long words take the reader little memory", async () => {
  await using folder = await temporaryFolder();
  const numbers = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
    SELECT 'r', 't', 'r', i, 'l' || i, '{"loss":' || (1.0 / i) || ',"spike":' || (i = 77777) || '}' FROM n`;
  makeDatabase(join(folder.path, "rows.db"), metricsTable(numbers));
  // each row brings a new metric, whose latest value is a long word: 400 MB that may not stay
  const words = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
    SELECT 'r', 't', 'r', i, 'l' || i, printf('{"w%d":"%.*c"}', i, 4000000, 'x') FROM n`;
  makeDatabase(join(folder.path, "words.db"), metricsTable(words));
  using reader = new Reader();
  const read = async (project: string): Promise<ProjectCurves> => {
    const path = join(folder.path, `${project}.db`);
    return await reader.curves({ project, path, access: "live", fragments: [], columns: 100, runs: [], metrics: [] });
  };
  const rows = await read("rows");
  assert.equal(rows.runs[0]?.rows, 100_000);
  assert.deepEqual(
    rows.runs[0]?.metrics[1]?.points?.filter(([, y]) => y === 1),
    [[77_777, 1]],
  );
  assert.ok(JSON.stringify(rows).length < 50_000);
  const { runs } = await read("words");
  assert.deepEqual([runs[0]?.rows, runs[0]?.metrics.length], [100, 100]);
  assert.equal(runs[0]?.metrics[99]?.latest, `${"x".repeat(100)}…`);
  const [pid = 0] = childrenOf(process.pid).filter((child) => commandOf(child).includes("reader-main"));
  const [, peakKiB = "0"] = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  assert.ok(Number(peakKiB) > 0 && Number(peakKiB) < 400 * 1024, `${peakKiB} KiB at most`);
});

/** The reader is a child of this process. */
function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
}

function commandOf(pid: number): string {
  return readFileSync(`/proc/${pid}/cmdline`, "utf8");
}

test("whatever a database holds, the answer stays small or says what is wrong", async () => {
  await using folder = await temporaryFolder();
  const make = (name: string, rows: string) => makeDatabase(join(folder.path, `${name}.db`), metricsTable(rows));
  const count = (n: number) => `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${n})`;
  make("runs", `${count(5000)} SELECT 'r' || i, 't', 'r' || i, i, 'l' || i, '{"a":1}' FROM n`);
  make(
    "names",
    `${count(60)} SELECT 'r', 't', 'r', i, 'l' || i, (WITH RECURSIVE m(j) AS (SELECT 1 UNION ALL SELECT j + 1 FROM m
      WHERE j < 1000) SELECT json_group_object('m' || i || '-' || j, j) FROM m) FROM n`,
  );
  make(
    "odd",
    `VALUES ('r', 't', 'r', 'seven', 'a', '{"a":1}'), ('r', 't', 'r', 1, 'b', '[1]'), (NULL, 't', 'r', 1, 'c', '{"a":1}'),
      ('r', 't', 'r', -9223372036854775808, 'd', '{"a":1e999,"__proto__":2,"constructor":{"prototype":3}}'),
      ('r', 't', 'r', 9223372036854775807, 'e', '{"a":-1.7e308,"${"n".repeat(300)}":1,"a":5}'),
      ('r', 't', 'r', 3, 'f', '${'{"d":'.repeat(500)}1${"}".repeat(500)}')`,
  );
  writeFileSync(join(folder.path, "rubbish.db"), "x".repeat(8192));
  const many = await curvesOf(folder.path, "runs");
  assert.deepEqual([many.runs.length, many.runs[0]?.run, many.leftOut.runs], [1000, "r5000", 4000]);
  assert.equal(many.runs.filter(({ metrics }) => metrics[0]?.points).length, 6);
  // one that is named is looked at, however old it is
  assert.equal((await curvesOf(folder.path, "runs", { runs: ["r1"] })).runs[0]?.rows, 1);
  const names = await curvesOf(folder.path, "names");
  assert.deepEqual([names.runs[0]?.metrics.length, names.leftOut.values], [20_000, 40_000]);
  assert.equal(names.runs[0]?.metrics.filter(({ points }) => points).length, 12);
  const odd = await curvesOf(folder.path, "odd");
  assert.deepEqual([odd.runs[0]?.rows, odd.leftOut.unusable, odd.leftOut.values], [3, 3, 1]);
  assert.deepEqual(
    odd.runs[0]?.metrics.map(({ name, latest, gaps }) => [name, latest, gaps]),
    [
      ["a", 5, 1],
      ["__proto__", 2, 0],
      ["constructor/prototype", 3, 0],
      ["d/d/d/d/d/d/d/d/d", "(object)", 0],
    ],
  );
  await assert.rejects(curvesOf(folder.path, "rubbish"), /not a database/);
});
