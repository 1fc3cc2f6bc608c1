/** What the tests of the syncer share: what users log, and how both sides are compared. */
import assert from "node:assert/strict";
import { copyFileSync, existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { TestContext } from "node:test";
import { Secret } from "../../src/secret.ts";
import { Syncer, type SyncerOptions } from "../../src/syncer/syncer.ts";
import { installTrackio, type Version, writeToken } from "./trackio.ts";

export const newest = "0.43.0";
export const quiet = "auto_log_gpu=False, auto_log_cpu=False";

/** What trackio's users log: three projects, with all kinds of values. */
export const busyProgram = `
import struct, zlib, math
def chunk(kind, data): return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
png = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"\\0\\0\\0\\0")) + chunk(b"IEND", b"")
import os
path = os.path.join(os.environ["HOME"], "dot.png"); open(path, "wb").write(png)
for project in ("first one", "second", "third"):
    run = trackio.init(project=project, name="run", config={"lr": 0.1, "big": 2**60, "names": ["a", "ü"]}, ${quiet})
    for i in range(40):
        trackio.log({"loss": 1 / (i + 1), "nan": math.nan, "inf": -math.inf, "deep": {"a": {"b": i}}, "word": "x"})
    trackio.log({"big": 2**60 + 1, "tiny": 1e-300})
    trackio.log({"trace": trackio.Trace(messages=[{"role": "user", "content": "hi"}], metadata={"n": 1}), "loss": 3})
    trackio.log({"traces": [trackio.Trace(messages=[{"role": "user", "content": str(n)}]) for n in range(2)]})
    trackio.log({"image": trackio.Image(path)}, step=500)
    trackio.log_system({"gpu": 0.5})
    trackio.alert(title="careful", text="it rises", level=trackio.AlertLevel.WARN)
    trackio.finish()
`;

/** Each row of a database without what a server makes itself: places, and the times of metrics (see docs/metrics.md). */
export function rowsOf(path: string): Record<string, unknown[]> {
  const db = copyOf(path);
  const queries = {
    metrics: "SELECT run_id, run_name, step, CAST(metrics AS TEXT) AS metrics, log_id FROM metrics ORDER BY log_id",
    system_metrics: `SELECT run_id, run_name, timestamp, CAST(metrics AS TEXT) AS metrics, log_id FROM system_metrics
      ORDER BY log_id`,
    alerts: "SELECT run_id, run_name, timestamp, title, text, level, step, alert_id FROM alerts ORDER BY alert_id",
    configs: "SELECT run_id, run_name, CAST(config AS TEXT) AS config FROM configs ORDER BY run_id",
    traces: `SELECT id, run_id, run_name, step, key, trace_index, CAST(messages AS TEXT) AS messages,
      CAST(metadata AS TEXT) AS metadata FROM traces ORDER BY id`,
  };
  try {
    return Object.fromEntries(Object.entries(queries).map(([table, sql]) => [table, db.prepare(sql).all()]));
  } finally {
    db.close();
  }
}

/** A Space keeps its databases locked for itself; nobody writes now. */
export function copyOf(path: string): DatabaseSync {
  const copy = `${path}.copy`;
  copyFileSync(path, copy);
  rmSync(`${copy}-wal`, { force: true });
  if (existsSync(`${path}-wal`)) copyFileSync(`${path}-wal`, `${copy}-wal`);
  return new DatabaseSync(copy);
}

interface Setting {
  folder: string;
  statePath: string;
}

export function syncerTo(
  address: string,
  { folder, statePath }: Setting,
  changes: Partial<SyncerOptions> = {},
): Syncer {
  return new Syncer({
    ...{ folder, statePath, access: "live", maxBytesPerHour: 2 ** 30, withMedia: true, spaces: [] },
    // nobody listens there: a Hub is only where a test brings one
    ...{ server: address, writeToken: new Secret(writeToken), hubUrl: "http://127.0.0.1:9" },
    ...changes,
  });
}

/** Whether the version is here; otherwise the test is skipped, with the reason. */
export async function isInstalled(version: Version, context: TestContext): Promise<boolean> {
  const reason = await installTrackio(version);
  if (reason !== undefined) context.skip(reason);
  return reason === undefined;
}

export function assertEqual(local: string, remote: string, projects: readonly string[]): void {
  for (const project of projects) {
    const [here, there] = [local, remote].map((folder) => rowsOf(join(folder, `${project}.db`)));
    assert.deepEqual(there, here, project);
    assert.ok((here?.["metrics"]?.length ?? 0) > 0);
  }
}

export const threeRuns = `
for name in ("kept", "renamed", "deleted"):
    trackio.init(project="p", name=name, ${quiet})
    for i in range(5): trackio.log({"loss": i})
    trackio.finish()
`;
export function runsOf(folder: string, project = "p"): Record<string, number> {
  const db = copyOf(join(folder, `${project}.db`));
  const rows = db.prepare("SELECT run_name AS name, COUNT(*) AS n FROM metrics GROUP BY run_name").all();
  db.close();
  return Object.fromEntries(rows.map((row) => [String(row["name"]), Number(row["n"])]));
}
