/** What a trackio database holds, as it crosses from the reader, which trusts nothing, to the syncer. */

/** The tables that are synced, each with its own position. */
export const tables = ["metrics", "system_metrics", "alerts", "configs"] as const;
export type Table = (typeof tables)[number];

/** The last row of a table that is behind us: its place, and what names it, to see that it is still the same row. */
export interface Position {
  id: number;
  key: string;
}
export type Positions = Record<Table, Position>;

export const noPositions: Positions = {
  metrics: { id: 0, key: "" },
  system_metrics: { id: 0, key: "" },
  alerts: { id: 0, key: "" },
  configs: { id: 0, key: "" },
};

interface Row {
  /** rowid: grows with each new row of the table */
  id: number;
  /** the row's own name, by which servers see that they have it; made up where the database has none */
  key: string;
  /** true when the name was made up: imported, or rewritten by a rename */
  isUnnamed: boolean;
  runId: string;
  run: string;
  /** ISO 8601 */
  timestamp: string;
}

export interface MetricsRow extends Row {
  /** decimal, may be beyond what a double holds */
  step: string;
  /** JSON of an object, as trackio wrote it */
  metrics: string;
  traces: TraceRow[];
}

export type SystemRow = Omit<MetricsRow, "step" | "traces">;

/** A trace is a value of its metrics row, kept in a table of its own. */
export interface TraceRow {
  /** of the value in `metrics` */
  name: string;
  /** place in a list; null: the value itself */
  index: number | null;
  /** each is JSON */
  messages: string;
  metadata: string;
  spans: string;
}

export interface AlertRow extends Row {
  title: string;
  text: string | null;
  level: string;
  step: string | null;
}

export interface ConfigRow {
  id: number;
  /** the run's id */
  key: string;
  run: string;
  /** JSON of an object */
  config: string;
  /** a row of the run, with which the config travels: servers take none alone. null: there is none yet */
  carrier: MetricsRow | null;
}

/** What is new in a database, oldest first. */
export interface Delta {
  metrics: MetricsRow[];
  system_metrics: SystemRow[];
  alerts: AlertRow[];
  configs: ConfigRow[];
  /** highest id of each table: what is beyond the rows above waits for the next reading */
  last: Record<Table, number>;
  /** rows that cannot be sent, by the reason; they count as behind us */
  unusable: { table: Table; id: number; reason: string }[];
  /** false when the row at a position is another one now, or none: the database was replaced */
  isSame: boolean;
}

/** Tables whose rows have names of their own, and can be counted on both sides. */
export const countedTables = ["metrics", "system_metrics", "alerts"] as const satisfies readonly Table[];
export type CountedTable = (typeof countedTables)[number];

/** How many rows of a run stand at or before a position. */
export interface RunCount {
  runId: string;
  rows: number;
}
