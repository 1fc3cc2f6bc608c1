/** Rows as trackio's API takes them: JSON made by splicing, so that no number loses a digit on the way. */
import type { AlertRow, MetricsRow, SystemRow, TraceRow } from "./rows.ts";

const quote = JSON.stringify;
/** of one row that are sent */
const maxFiles = 100;
/** trackio nests media three deep, in tables */
const maxDepth = 16;

/** An entry of `bulk_log`; `run` is the run's name at the destination, `config` JSON of an object. */
export function metricsEntry(project: string, run: string, row: MetricsRow, config?: string): string {
  const metrics = withTraces(row.metrics, row.traces);
  return `{"project":${quote(project)},"run":${quote(run)},"run_id":${quote(row.runId)},"metrics":${metrics},"step":${row.step},"config":${config ?? "null"},"log_id":${quote(row.key)},"timestamp":${quote(row.timestamp)}}`;
}

/** An entry of `bulk_log_system`. */
export function systemEntry(project: string, run: string, row: SystemRow): string {
  return `{"project":${quote(project)},"run":${quote(run)},"run_id":${quote(row.runId)},"metrics":${row.metrics},"timestamp":${quote(row.timestamp)},"log_id":${quote(row.key)}}`;
}

/** An entry of `bulk_alert`. */
export function alertEntry(project: string, run: string, row: AlertRow): string {
  return `{"project":${quote(project)},"run":${quote(run)},"run_id":${quote(row.runId)},"title":${quote(row.title)},"text":${quote(row.text)},"level":${quote(row.level)},"step":${row.step ?? "null"},"timestamp":${quote(row.timestamp)},"alert_id":${quote(row.key)}}`;
}

/** trackio keeps traces apart from the values they were logged with; here they come together again. */
function withTraces(metrics: string, traces: readonly TraceRow[]): string {
  if (traces.length === 0) return metrics;
  const known = JSON.parse(metrics) as Record<string, unknown>;
  const members: string[] = [];
  for (const name of new Set(traces.map((trace) => trace.name))) {
    const ofName = traces.filter((trace) => trace.name === name);
    const single = ofName.find(({ index }) => index === null);
    if (single) {
      members.push(`${quote(name)}:${traceValue(single)}`);
      continue;
    }
    // what is no trace in the list stayed in the row, in order
    const others = Array.isArray(known[name]) ? (known[name] as unknown[]).map((item) => quote(item)) : [];
    delete known[name];
    const byIndex = new Map(ofName.map((trace) => [trace.index, traceValue(trace)]));
    const length = ofName.length + others.length;
    const items = Array.from({ length }, (_unused, index) => byIndex.get(index) ?? others.shift() ?? "null");
    members.push(`${quote(name)}:[${items.join(",")}]`);
  }
  const isUnchanged = traces.every(({ name }) => !(name in (JSON.parse(metrics) as object)));
  const rest = (isUnchanged ? metrics : quote(known)).trim().slice(1, -1).trim();
  return `{${[rest, ...members].filter((part) => part !== "").join(",")}}`;
}

function traceValue({ messages, metadata, spans }: TraceRow): string {
  const withSpans = spans === "[]" ? "" : `,"spans":${spans}`;
  return `{"_type":"trackio.trace","messages":${messages},"metadata":${metadata}${withSpans}}`;
}

/** Paths of the media that a row's values name, below `media/`. */
export function mediaIn(metrics: string): string[] {
  if (!metrics.includes('"trackio.')) return [];
  const paths: string[] = [];
  const search = (value: unknown, depth = 0): void => {
    if (value === null || typeof value !== "object" || depth > maxDepth) return;
    const { _type: type, file_path: path } = value as { _type?: unknown; file_path?: unknown };
    if (typeof type === "string" && type.startsWith("trackio.") && typeof path === "string") paths.push(path);
    for (const member of Object.values(value)) search(member, depth + 1);
  };
  search(JSON.parse(metrics));
  return paths.slice(0, maxFiles);
}
