/** What a server that is down may lose: it was put back to an older state, or had no disk of its own. */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { countedTables } from "./ledger.ts";
import type { Seeded } from "./seeded.ts";

/** Some rows of each table; each run keeps its first, for one without any was deleted by somebody. */
export function loseRows(folder: string, project: string, seeded: Seeded): void {
  const path = join(folder, `${project}.db`);
  if (!existsSync(path)) return;
  const db = new DatabaseSync(path);
  try {
    for (const table of countedTables) {
      const every = 2 + seeded.below(5);
      const isFirst = `id IN (SELECT min(id) FROM ${table} GROUP BY run_id)`;
      if (table === "metrics") {
        const lost = `SELECT log_id FROM metrics WHERE id % ${every} = 0 AND NOT ${isFirst}`;
        db.exec(`DELETE FROM traces WHERE log_id IN (${lost})`);
      }
      db.exec(`DELETE FROM ${table} WHERE id % ${every} = 0 AND NOT ${isFirst}`);
    }
  } finally {
    db.close();
  }
}

export function loseProject(folder: string, project: string): void {
  for (const ending of ["", "-wal", "-shm"]) rmSync(join(folder, `${project}.db${ending}`), { force: true });
}
