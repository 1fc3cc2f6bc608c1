/** Takes the rows of a project one by one, and keeps what a person wants to see of them. */
import type { AlertNote, CurvesRequest, LatestValue, ProjectCurves, RunCurves, Series } from "./curves.ts";
import type { Row } from "./database.ts";
import type { Table } from "./rows.ts";
import { Thinned } from "./thinning.ts";

/** curves are kept for the first metrics by their order in the rows, and for the runs that logged last */
const maxDrawnMetrics = 12;
const maxDrawnSystemMetrics = 48;
const maxDrawnRuns = 6;

const maxSeries = 20_000;
const maxNameLength = 200;
const maxWordLength = 100;
const maxDepth = 8;
const maxAlerts = 3;
const maxConfigLength = 16 * 1024;
/** of all configs together */
const maxConfigsLength = 2 ** 20;

interface Gathered {
  series: Omit<Series, "points">;
  curve: Thinned | undefined;
}

interface GatheredRun {
  facts: Omit<RunCurves, "metrics" | "system">;
  isDrawn: boolean;
  metrics: Map<string, Gathered>;
  system: Map<string, Gathered>;
}

export class CurveCollector {
  readonly #request: Pick<CurvesRequest, "columns" | "metrics">;
  readonly #runs: Map<string, GatheredRun>;
  readonly #drawn = { metrics: new Set<string>(), system: new Set<string>() };
  readonly #alerts: AlertNote[] = [];
  #series = 0;
  #configsLength = 0;
  #unusable = 0;
  #values = 0;

  /** `runs`: those that are looked at, that which logged last first. */
  constructor(request: Pick<CurvesRequest, "columns" | "metrics">, runs: readonly { runId: string; run: string }[]) {
    this.#request = request;
    this.#runs = new Map(
      runs.map(({ runId, run }, index) => [runId, { ...emptyRun(runId, run), isDrawn: index < maxDrawnRuns }]),
    );
  }

  /** `row`: as Schema.select gives it; a value over its limit is null. */
  add(table: Table, row: Row): void {
    if (row["runId"] === null || row["run"] === null) this.#unusable += 1;
    const run = this.#runs.get(String(row["runId"]));
    if (!run) return;
    if (table === "configs") this.#addConfig(run, row);
    else if (table === "alerts") this.#addAlert(run, row);
    else this.#addMeasured(table === "metrics" ? "metrics" : "system", run, row);
  }

  result(runsLeftOut: number, rowsLeftOut: number): ProjectCurves {
    return {
      runs: [...this.#runs.values()].map(({ facts, metrics, system }) => ({
        ...facts,
        metrics: seriesOf(metrics),
        system: seriesOf(system),
      })),
      alerts: this.#alerts,
      leftOut: { runs: runsLeftOut, rows: rowsLeftOut, unusable: this.#unusable, values: this.#values },
    };
  }

  #addConfig({ facts }: GatheredRun, { config }: Row): void {
    const text = String(config ?? "");
    if (text.length > maxConfigLength || this.#configsLength + text.length > maxConfigsLength) return;
    if (objectIn(text) === undefined) return;
    this.#configsLength += text.length;
    facts.config = text;
  }

  #addAlert({ facts }: GatheredRun, { title, level, step }: Row): void {
    facts.alerts += 1;
    const note = { run: facts.run, level: cut(level), title: cut(title), step: numberOf(step) };
    this.#alerts.push(note);
    if (this.#alerts.length > maxAlerts) this.#alerts.shift();
  }

  #addMeasured(kind: "metrics" | "system", run: GatheredRun, row: Row): void {
    const measured = objectIn(String(row["metrics"] ?? ""));
    const step = numberOf(row["step"]);
    const time = row["timestamp"] ? Date.parse(String(row["timestamp"])) : Number.NaN;
    if (!measured || (kind === "metrics" && step === null)) {
      this.#unusable += 1;
      return;
    }
    const { facts } = run;
    if (row["timestamp"]) facts.lastTimestamp = cut(row["timestamp"]);
    if (kind === "metrics" && step !== null) {
      facts.rows += 1;
      facts.firstStep = Math.min(facts.firstStep ?? step, step);
      facts.lastStep = Math.max(facts.lastStep ?? step, step);
    }
    const x = kind === "metrics" ? step : time;
    for (const [name, value] of leavesOf(measured)) this.#addValue(kind, run, name, value, x);
  }

  #addValue(kind: "metrics" | "system", run: GatheredRun, name: string, value: unknown, x: number | null): void {
    if (name.length > maxNameLength) {
      this.#values += 1;
      return;
    }
    if (!isWanted(name, this.#request.metrics)) return;
    let gathered = run[kind].get(name);
    if (!gathered) {
      if (this.#series >= maxSeries) {
        this.#values += 1;
        return;
      }
      this.#series += 1;
      gathered = { series: { name, latest: null, numbers: 0, gaps: 0, least: null, most: null }, curve: undefined };
      run[kind].set(name, gathered);
    }
    const { series } = gathered;
    series.latest = latestOf(value);
    const y = Number.isFinite(value) ? Number(value) : null;
    if (y === null && !isNonFinite(value)) return;
    if (y === null) series.gaps += 1;
    else {
      series.numbers += 1;
      series.least = Math.min(series.least ?? y, y);
      series.most = Math.max(series.most ?? y, y);
    }
    if (!run.isDrawn || x === null || !Number.isFinite(x) || !this.#isDrawn(kind, name)) return;
    gathered.curve ??= new Thinned(this.#request.columns);
    gathered.curve.add(x, y);
  }

  #isDrawn(kind: "metrics" | "system", name: string): boolean {
    const names = this.#drawn[kind];
    if (names.has(name)) return true;
    if (names.size >= (kind === "metrics" ? maxDrawnMetrics : maxDrawnSystemMetrics)) return false;
    names.add(name);
    return true;
  }
}

function emptyRun(runId: string, run: string): Omit<GatheredRun, "isDrawn"> {
  const nothing = { rows: 0, firstStep: null, lastStep: null, lastTimestamp: null, config: null, alerts: 0 };
  return { facts: { runId, run, ...nothing }, metrics: new Map(), system: new Map() };
}

function seriesOf(gathered: ReadonlyMap<string, Gathered>): Series[] {
  return [...gathered.values()].map(({ series, curve }) => ({ ...series, points: curve?.points() ?? null }));
}

function isWanted(name: string, wanted: readonly string[]): boolean {
  return wanted.length === 0 || wanted.some((each) => name === each || name.startsWith(`${each}/`));
}

/** The values of nested objects, by their path. Media and the like are objects with a `_type`. */
function* leavesOf(value: Record<string, unknown>, prefix = "", depth = 0): Generator<[name: string, value: unknown]> {
  for (const [key, member] of Object.entries(value)) {
    const name = `${prefix}${key}`;
    if (!isObject(member) || typeof member["_type"] === "string" || depth >= maxDepth) yield [name, member];
    else yield* leavesOf(member, `${name}/`, depth + 1);
  }
}

/** JSON has no NaN and no infinities: trackio writes these words. */
function isNonFinite(value: unknown): boolean {
  return typeof value === "number" || value === "NaN" || value === "Infinity" || value === "-Infinity";
}

function latestOf(value: unknown): LatestValue {
  if (value === null || Number.isFinite(value)) return value as number | null;
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return cut(String(value));
  if (Array.isArray(value)) return `(list of ${value.length})`;
  const type = isObject(value) && typeof value["_type"] === "string" ? value["_type"] : "object";
  return `(${cut(type.replace(/^trackio\./, ""))})`;
}

/** A copy: what is sliced from a long string would keep all of it. */
function cut(value: unknown): string {
  const text = String(value ?? "");
  return text.length <= maxWordLength ? text : `${Buffer.from(text.slice(0, maxWordLength)).toString()}…`;
}

function numberOf(value: unknown): number | null {
  if (value === null || value === undefined || !/^-?\d{1,19}$/.test(String(value))) return null;
  return Number(value);
}

function objectIn(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
