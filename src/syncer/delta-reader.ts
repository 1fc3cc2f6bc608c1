/** What is new in a database, batch by batch: the next one is read while the last is on its way. */
import type { Access } from "./database.ts";
import type { Reader } from "./reader.ts";
import { type CountedTable, countedTables, type Delta, type Position, type Positions } from "./rows.ts";

/** trackio's own client sends as many */
export const maxRows = 500;
export const maxBytes = 1024 * 1024;

export class DeltaReader {
  readonly #reader: Reader;
  readonly #file: { path: string; access: Access };
  #ahead: { after: string; delta: Promise<Delta> } | undefined;

  constructor(reader: Reader, file: { path: string; access: Access }) {
    this.#reader = reader;
    this.#file = file;
  }

  /** Rejects with an Error that says what is wrong with the file. */
  async next(after: Positions): Promise<Delta> {
    const ahead = this.#ahead;
    this.#ahead = undefined;
    return await (ahead?.after === JSON.stringify(after) ? ahead.delta : this.#read(after));
  }

  /** Begins to read what follows a delta that is going to be sent whole, if anything does. */
  readAhead(positions: Positions, delta: Delta): void {
    // how far configs come is known only afterwards
    if (delta.configs.length > 0) return;
    const after = { ...positions };
    for (const table of countedTables) after[table] = lastIn(delta, table) ?? after[table];
    if (countedTables.every((table) => delta.last[table] <= after[table].id)) return;
    this.#ahead = { after: JSON.stringify(after), delta: this.#read(after) };
    // whoever asks for it gets the failure
    this.#ahead.delta.catch(() => {});
  }

  /** What was read ahead is of no use later: the file changes. */
  forget(): void {
    this.#ahead = undefined;
  }

  #read(after: Positions): Promise<Delta> {
    return this.#reader.delta({ ...this.#file, after, maxRows, maxBytes });
  }
}

/** The last row of a table in a delta, also when it cannot be used. */
export function lastIn(delta: Delta, table: CountedTable): Position | undefined {
  const rows: readonly { id: number; key: string }[] = delta[table];
  const unusable = delta.unusable.filter((row) => row.table === table);
  const id = Math.max(rows.at(-1)?.id ?? 0, ...unusable.map((row) => row.id));
  return id === 0 ? undefined : { id, key: rows.find((row) => row.id === id)?.key ?? "" };
}
