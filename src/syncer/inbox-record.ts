/**
 * A row as trackio's importer of fragments takes it. The importer stops at a row whose shape it does not expect, and with it at all that
 * waits behind (trackio 0.43, fragments.py); a line that it cannot parse is dropped in silence. So only rows whose
 * shape is known to pass go there.
 */
import type { CountedTable } from "./rows.ts";

const kinds = { metrics: "metric", system_metrics: "system_metric", alerts: "alert" } as const satisfies Record<
  CountedTable,
  string
>;

/** orjson, with which trackio writes what it read, gives up at 254 */
const maxDepth = 200;
/** the files of a project's database have its name, and endings: no name of a file is longer than 255 */
const maxProjectBytes = 200;
const isoTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?$/;

/** A line of a fragment, without its end; `entry` is the row as the server's API takes it. Undefined: it does not fit. */
export function inboxRecord(table: CountedTable, entry: string): string | undefined {
  if (!fits(entry)) return undefined;
  // between the parts of JSON there may be line breaks, which would end the record
  return `{"v":1,"kind":"${kinds[table]}",${entry.slice(1).replace(/[\r\n]/g, " ")}`;
}

function fits(entry: string): boolean {
  let row: unknown;
  try {
    row = JSON.parse(entry);
  } catch {
    return false;
  }
  if (!isObject(row) || !isPlain(row, 0)) return false;
  const { project, timestamp, step, metrics } = row;
  if (typeof project !== "string" || Buffer.byteLength(project) > maxProjectBytes) return false;
  if (typeof timestamp !== "string" || !isoTime.test(timestamp)) return false;
  // SQLite has no larger numbers
  if (typeof step === "number" && Math.abs(step) >= 2 ** 63) return false;
  return metrics === undefined || (isObject(metrics) && Object.values(metrics).flat(1).every(hasSoundSpans));
}

/** trackio takes traces out of a row's values, and goes through their spans. */
function hasSoundSpans(value: unknown): boolean {
  if (!isObject(value) || value["_type"] !== "trackio.trace") return true;
  const { spans } = value;
  return spans === undefined || spans === null || Array.isArray(spans);
}

/** Numbers and words that JSON has and orjson has not: too large, and halves of characters. */
function isPlain(value: unknown, depth: number): boolean {
  if (typeof value === "number") return Number.isFinite(value);
  if (typeof value === "string") return value.isWellFormed();
  if (value === null || typeof value !== "object") return true;
  if (depth >= maxDepth) return false;
  return Object.entries(value).every(([key, member]) => key.isWellFormed() && isPlain(member, depth + 1));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
