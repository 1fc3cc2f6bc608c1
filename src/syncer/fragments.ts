/** Rows that trackio wrote as JSON lines: each says to which project it belongs. */
import { messageOf } from "../errors.ts";
import { readRegularFile } from "./regular-file.ts";
import type { AlertRow, MetricsRow, SystemRow } from "./rows.ts";
import type { FragmentFile } from "./trackio-folder.ts";

/** of a fragment, in bytes: trackio writes one every half second */
const maxBytes = 16 * 1024 * 1024;

interface Fragment<Row> {
  /** of the file it stands in */
  number: number;
  /** in trackio's form */
  project: string;
  row: Row;
  /** JSON of an object; the first row of a run brings it */
  config: string | undefined;
}

export interface FragmentRows {
  metrics: Fragment<MetricsRow>[];
  system_metrics: Fragment<SystemRow>[];
  alerts: Fragment<AlertRow>[];
  /** lines that hold nothing of trackio's */
  unusable: number;
}

type Fields = Record<string, unknown>;

/** Fragments that were read together. */
export interface FragmentLot {
  rows: FragmentRows;
  /** how many of the fragments were read; the others are for the next lot */
  taken: number;
  /** fragments and lines that are left out, in words */
  problems: string[];
}

const maxProblems = 20;

/** Reads fragments in order until they have so many bytes, but one at least. */
export function readFragments(fragments: readonly FragmentFile[], lotBytes: number): FragmentLot {
  const lot: FragmentLot = { rows: noRows(), taken: 0, problems: [] };
  let bytes = 0;
  for (const { folder, path, number } of fragments) {
    if (bytes >= lotBytes) break;
    const { unusable } = lot.rows;
    try {
      bytes += readInto(lot.rows, folder, path, number);
    } catch (error) {
      lot.problems.push(`fragment ${number} cannot be read: ${messageOf(error)}`);
    }
    const left = lot.rows.unusable - unusable;
    if (left > 0) lot.problems.push(`${left} lines of fragment ${number} cannot be used`);
    lot.taken += 1;
  }
  lot.problems.splice(maxProblems);
  return lot;
}

/** Throws an Error that says what is wrong with the file. */
export function readFragment(folder: string, path: string): FragmentRows {
  const rows = noRows();
  readInto(rows, folder, path, 0);
  return rows;
}

function noRows(): FragmentRows {
  return { metrics: [], system_metrics: [], alerts: [], unusable: 0 };
}

/** Returns the bytes of the file. */
function readInto(rows: FragmentRows, folder: string, path: string, number: number): number {
  const content = readRegularFile(folder, path, maxBytes);
  for (const [index, line] of content.toString("utf8").split("\n").entries()) {
    if (line.trim() === "") continue;
    if (!take(line, index, number, rows)) rows.unusable += 1;
  }
  return content.length;
}

function take(line: string, id: number, number: number, rows: FragmentRows): boolean {
  const fields = parsed(line);
  const { project, run, run_id: runId, timestamp, step, log_id: logId, alert_id: alertId } = fields ?? {};
  if (!fields || !isWord(project) || !isWord(run) || !isWord(timestamp)) return false;
  if (step !== undefined && step !== null && !Number.isSafeInteger(step)) return false;
  const key = fields["kind"] === "alert" ? alertId : logId;
  // without its name a row could come twice
  if (!isWord(key)) return false;
  const common = { id, key, isUnnamed: false, run, runId: isWord(runId) ? runId : run, timestamp };
  const named = canonicalProject(project);
  if (fields["kind"] === "alert") {
    const { title, text = null, level } = fields;
    if (!isWord(title) || !isWord(level) || !(text === null || typeof text === "string")) return false;
    const row: AlertRow = { ...common, title, text, level, step: step == null ? null : String(step) };
    rows.alerts.push({ number, project: named, row, config: undefined });
    return true;
  }
  const { metrics, config } = fields;
  if (!isObject(metrics)) return false;
  const measured: SystemRow = { ...common, metrics: JSON.stringify(metrics) };
  if (fields["kind"] === "system_metric") {
    rows.system_metrics.push({ number, project: named, row: measured, config: undefined });
    return true;
  }
  if (fields["kind"] !== "metric") return false;
  const row: MetricsRow = { ...measured, step: String(step ?? 0), traces: [] };
  rows.metrics.push({ number, project: named, row, config: isObject(config) ? JSON.stringify(config) : undefined });
  return true;
}

/** trackio's `canonical_project_name`: letters, digits, `-` and `_` stay. */
function canonicalProject(name: string): string {
  return name.replace(/[^\p{L}\p{N}_-]/gu, "") || "default";
}

/** TypeScript does not know them yet. */
const { rawJSON, isRawJSON } = JSON as typeof JSON & {
  rawJSON(json: string): unknown;
  isRawJSON(value: unknown): boolean;
};

/** Numbers that JavaScript would change keep their digits when they are written again. */
function parsed(line: string): Fields | undefined {
  const keepDigits = (_name: string, value: unknown, context?: { source: string }): unknown =>
    typeof value === "number" && context && String(value) !== context.source ? rawJSON(context.source) : value;
  try {
    const value: unknown = JSON.parse(line, keepDigits);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isWord(value: unknown): value is string {
  return typeof value === "string" && value !== "" && value.length <= 1024;
}

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !isRawJSON(value);
}
