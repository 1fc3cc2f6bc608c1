/** What trackio has of a project: its runs, the losses with their steps, and a config. */
import { DatabaseSync } from "node:sqlite";

export function readRuns(path: string) {
  const db = new DatabaseSync(path, { readOnly: true });
  try {
    const runs = db
      .prepare("SELECT run_id AS id, run_name AS name FROM metrics UNION SELECT run_id, run_name FROM system_metrics")
      .all() as { id: string; name: string }[];
    const rows = db.prepare("SELECT CAST(metrics AS TEXT) AS text FROM metrics ORDER BY id").all();
    const values = rows.map(({ text }) => JSON.parse(String(text)) as Record<string, number>);
    const losses = values.flatMap(({ "train/loss": loss, "train/global_step": step }) =>
      loss === undefined ? [] : [{ loss, step }],
    );
    const steps = db
      .prepare("SELECT step FROM metrics ORDER BY id")
      .all()
      .map(({ step }) => Number(step));
    const config = db.prepare("SELECT CAST(config AS TEXT) AS text FROM configs").get();
    return { runs, losses, steps, config: JSON.parse(String(config?.["text"])) as Record<string, unknown> };
  } finally {
    db.close();
  }
}
