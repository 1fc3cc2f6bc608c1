/** Runs and curves of trackio projects as text. Pure. */
import { styleText } from "node:util";
import type { ProjectCurves, RunCurves, Series } from "../syncer/curves.ts";
import type { CurvePoint } from "../syncer/thinning.ts";
import { chart, lineSample } from "./metrics-chart.ts";
import type { FolderMetrics, ProjectMetrics } from "./metrics-folder.ts";
import { cutTo, numberWords, oneLine, padEnd, sparkline, table, timeWords, widthOf } from "./metrics-words.ts";

export interface TextOptions {
  /** columns */
  width: number;
  /** lines of a chart's curves */
  chartHeight: number;
  isColored: boolean;
  /** milliseconds since 1970, for "3 min ago"; undefined: times are written in full */
  now: number | undefined;
}

const maxListedRuns = 20;
const maxListedMetrics = 30;
const maxNameWidth = 40;
const gapBetweenCharts = 4;
/** two charts beside each other need so many columns each */
const leastChartWidth = 56;

interface Style {
  dim(text: string): string;
  bold(text: string): string;
  red(text: string): string;
}

/** Without a newline at the end; empty when there is nothing. */
export function folderText({ projects, problems }: FolderMetrics, options: TextOptions): string {
  const style = styleOf(options.isColored);
  const parts = projects.map((project) => projectLines(project, options, style));
  if (problems.length > 0) parts.push(problems.map((words) => style.red(`✗ ${oneLine(words, options.width - 2)}`)));
  return parts.map((lines) => lines.join("\n")).join("\n\n");
}

function projectLines({ project, curves, error }: ProjectMetrics, options: TextOptions, style: Style): string[] {
  if (!curves) return [style.red(`✗ ${oneLine(`${project} cannot be read: ${error}`, options.width - 2)}`)];
  const { runs } = curves;
  const rows = runs.reduce((sum, run) => sum + run.rows, 0);
  const head = `${style.bold(oneLine(project, maxNameWidth))}  ${style.dim(`${counted(runs.length, "run")} · ${counted(rows, "row")}`)}`;
  const labels = labelsOf(runs);
  return [
    head,
    "",
    ...runLines(runs, labels, options, style),
    ...alertLines(curves, options, style),
    ...leftOutLines(curves, options, style),
    ...metricLines(runs, labels, options, style),
    ...systemLines(runs, labels, options, style),
  ];
}

/** Names of runs for people; where two have one name, each with the beginning of its id. */
function labelsOf(runs: readonly RunCurves[]): Map<RunCurves, string> {
  const names = Map.groupBy(runs, ({ run }) => run);
  return new Map(
    runs.map((run) => {
      const isAlone = (names.get(run.run)?.length ?? 0) < 2 || run.runId === run.run;
      return [run, oneLine(isAlone ? run.run : `${run.run} (${run.runId.slice(0, 6)})`, maxNameWidth)];
    }),
  );
}

function runLines(
  runs: readonly RunCurves[],
  labels: ReadonlyMap<RunCurves, string>,
  { now, width }: TextOptions,
  style: Style,
): string[] {
  const shown = runs.slice(0, maxListedRuns);
  const hasAlerts = shown.some(({ alerts }) => alerts > 0);
  const cells = shown.map((run) => [
    labels.get(run) ?? "",
    numberWords(run.rows),
    stepsOf(run),
    timeWords(run.lastTimestamp, now),
    ...(hasAlerts ? [run.alerts === 0 ? "" : numberWords(run.alerts)] : []),
  ]);
  const head = ["run", "rows", "steps", "last logged", ...(hasAlerts ? ["alerts"] : [])];
  const [headLine = "", ...lines] = table([head, ...cells], new Set([1, 2, 4]));
  const rest = runs.length - shown.length;
  return [
    style.dim(cutTo(`  ${headLine}`, width)),
    ...lines.map((line) => cutTo(`  ${line}`, width)),
    ...(rest > 0 ? [style.dim(`  … ${counted(rest, "older run")}: name one with --run`)] : []),
  ];
}

function stepsOf({ firstStep, lastStep }: RunCurves): string {
  if (firstStep === null || lastStep === null) return "";
  return firstStep === lastStep ? numberWords(lastStep) : `${numberWords(firstStep)}–${numberWords(lastStep)}`;
}

function alertLines({ alerts }: ProjectCurves, { width }: TextOptions, style: Style): string[] {
  return alerts.map(({ run, level, title, step }) => {
    const place = `${oneLine(run, maxNameWidth)}${step === null ? "" : `, step ${numberWords(step)}`}`;
    const line = oneLine(`▲ ${oneLine(level, 10)}: ${title} (${place})`, width - 2);
    return `  ${level === "info" ? style.dim(line) : style.red(line)}`;
  });
}

function leftOutLines({ leftOut }: ProjectCurves, { width }: TextOptions, style: Style): string[] {
  const { runs, rows, unusable, values } = leftOut;
  return [
    ...(runs > 0 ? [`${counted(runs, "older run")} not looked at: name one with --run`] : []),
    ...(rows > 0 ? [`${counted(rows, "older row")} not looked at: there are too many`] : []),
    ...(unusable > 0 ? [`${counted(unusable, "row")} cannot be used`] : []),
    ...(values > 0 ? [`${counted(values, "value")} not looked at: too many metrics, or names that are too long`] : []),
  ].map((words) => style.dim(`  ${oneLine(words, width - 2)}`));
}

interface Entry {
  label: string;
  /** among the runs that are drawn */
  place: number;
  series: Series;
}

function entriesByName(
  runs: readonly RunCurves[],
  labels: ReadonlyMap<RunCurves, string>,
  kind: "metrics" | "system",
): Map<string, Entry[]> {
  const entries = runs.flatMap((run, place) =>
    run[kind].map((series) => ({ label: labels.get(run) ?? "", place, series })),
  );
  return Map.groupBy(entries, ({ series }) => series.name);
}

function metricLines(
  runs: readonly RunCurves[],
  labels: ReadonlyMap<RunCurves, string>,
  options: TextOptions,
  style: Style,
): string[] {
  const columns = options.width - 2 >= 2 * leastChartWidth + gapBetweenCharts ? 2 : 1;
  const width = Math.min(100, Math.floor((options.width - 2 - (columns - 1) * gapBetweenCharts) / columns));
  const blocks: string[][] = [];
  const rest: [name: string, entries: Entry[]][] = [];
  const { isColored, chartHeight: height } = options;
  for (const [name, entries] of entriesByName(runs, labels, "metrics")) {
    const curves: (readonly CurvePoint[] | undefined)[] = [];
    for (const { place, series } of entries) if (series.points) curves[place] = series.points;
    const lines = chart(Array.from(curves), { width, height }, isColored);
    if (lines.length === 0) rest.push([name, entries]);
    else blocks.push([...legendOf(name, entries, runs.length, width, options, style), ...lines]);
  }
  return [...gridOf(blocks, columns, width), ...restLines(rest, runs.length, options, style)];
}

/** The metric's name and its runs' values. */
function legendOf(
  name: string,
  entries: readonly Entry[],
  runs: number,
  width: number,
  { isColored }: TextOptions,
  style: Style,
): string[] {
  const drawn = entries.filter(({ series }) => series.points);
  const valuesOf = ({ series }: Entry) => [
    wordsOf(series, 16),
    ...(series.least === null || series.most === null
      ? ["", ""]
      : [`min ${numberWords(series.least)}`, `max ${numberWords(series.most)}`]),
    series.gaps === 0 ? "" : `${numberWords(series.gaps)} not finite`,
  ];
  const [first] = drawn;
  if (runs === 1 && first) {
    const [latest = "", ...others] = valuesOf(first);
    const range = others.filter(Boolean).join("  ");
    const title = oneLine(name, Math.max(8, width - widthOf(latest) - widthOf(range) - 4));
    const rest = cutTo(range, width - widthOf(title) - widthOf(latest) - 4);
    return [`${style.bold(title)}  ${latest}  ${style.dim(rest)}`.trimEnd()];
  }
  const rows = table(
    drawn.map((entry) => [oneLine(entry.label, 24), ...valuesOf(entry)]),
    new Set([1, 2, 3]),
  );
  const lines = rows.map((row, index) => `${lineSample(drawn[index]?.place ?? 0, isColored)} ${cutTo(row, width - 3)}`);
  const undrawn = entries.length - drawn.length;
  const more = undrawn > 0 ? [style.dim(`   ${counted(undrawn, "more run")}: choose with --run`)] : [];
  return [style.bold(oneLine(name, width)), ...lines, ...more];
}

/** Blocks beside each other, each row of them after an empty line. */
function gridOf(blocks: readonly string[][], columns: number, width: number): string[] {
  const lines: string[] = [];
  for (let start = 0; start < blocks.length; start += columns) {
    const row = blocks.slice(start, start + columns);
    const height = Math.max(...row.map((block) => block.length));
    // legends differ in length: charts stand on one line
    const level = row.map((block) => [
      ...block.slice(0, 1),
      ...Array(height - block.length).fill(""),
      ...block.slice(1),
    ]);
    lines.push("");
    for (let line = 0; line < height; line += 1) {
      const cells = level.map((block) => padEnd(block[line] ?? "", width));
      lines.push(`  ${cells.join(" ".repeat(gapBetweenCharts))}`.trimEnd());
    }
  }
  return lines;
}

/** Metrics without a curve, with their latest value in the runs that logged last. */
function restLines(
  rest: readonly [name: string, entries: Entry[]][],
  runs: number,
  { width }: TextOptions,
  style: Style,
): string[] {
  if (rest.length === 0) return [];
  const rows = rest.slice(0, maxListedMetrics).map(([name, entries]) => [
    oneLine(name, maxNameWidth),
    entries
      .slice(0, 3)
      .map(({ label, series }) => `${wordsOf(series, maxNameWidth)}${runs > 1 ? ` (${oneLine(label, 20)})` : ""}`)
      .join(", ") + (entries.length > 3 ? ", …" : ""),
  ]);
  const hasCurves = rest.some(([, entries]) => entries.some(({ series }) => series.numbers > 1 && !series.points));
  const more = rest.length - rows.length;
  return [
    "",
    style.dim(`  not drawn${hasCurves ? ": choose with --metric" : ""}`),
    ...table(rows, new Set()).map((row) => cutTo(`  ${row}`, width)),
    ...(more > 0 ? [style.dim(`  … ${counted(more, "more metric")}`)] : []),
  ];
}

function systemLines(
  runs: readonly RunCurves[],
  labels: ReadonlyMap<RunCurves, string>,
  { width }: TextOptions,
  style: Style,
): string[] {
  const entries = [...entriesByName(runs, labels, "system").values()].flat();
  if (entries.length === 0) return [];
  const rows = entries.slice(0, maxListedMetrics).map(({ label, series }) => [
    oneLine(series.name, maxNameWidth),
    ...(runs.length > 1 ? [oneLine(label, 20)] : []),
    wordsOf(series, maxNameWidth),
    series.least === null ? "" : `min ${numberWords(series.least)}`,
    series.most === null ? "" : `max ${numberWords(series.most)}`,
    sparkline(
      (series.points ?? []).map(([, y]) => y).filter((y) => y !== null),
      24,
    ),
  ]);
  const right = runs.length > 1 ? [2, 3, 4] : [1, 2, 3];
  const more = entries.length - rows.length;
  return [
    "",
    style.dim("  system"),
    ...table(rows, new Set(right)).map((row) => cutTo(`  ${row}`, width)),
    ...(more > 0 ? [style.dim(`  … ${numberWords(more)} more: choose with --run and --metric`)] : []),
  ];
}

function wordsOf({ latest }: Series, width: number): string {
  if (latest === null) return "none";
  return typeof latest === "number" ? numberWords(latest) : oneLine(latest, width);
}

function counted(count: number, noun: string): string {
  return `${count.toLocaleString("en-US")} ${noun}${count === 1 ? "" : "s"}`;
}

function styleOf(isColored: boolean): Style {
  const style = (format: "dim" | "bold" | "red") => (text: string) =>
    isColored ? styleText(format, text, { validateStream: false }) : text;
  return { dim: style("dim"), bold: style("bold"), red: style("red") };
}
