/** Curves as lines of text, drawn by simple-ascii-chart. Pure. */
import { plot } from "simple-ascii-chart";
import type { CurvePoint } from "../syncer/thinning.ts";
import { axisWords, numberWords, padEnd, widthOf } from "./metrics-words.ts";

/** How the curves of different runs are told apart, in this order: by colour (of an ANSI sequence), or by their letters. */
const palette = [
  [36, "━┓┃┗┛┏"],
  [33, "═╗║╚╝╔"],
  [35, "─╮│╰╯╭"],
  [32, "······"],
  [34, "++++++"],
  [31, "******"],
] as const;
/** what simple-ascii-chart draws with */
const letters = [...palette[0][1]];

export interface ChartSize {
  /** columns of the whole, axis and its numbers included */
  width: number;
  /** lines of the curves; the axis takes two more */
  height: number;
}

/** A piece of curve as it looks in a chart, for a legend. `place`: among the curves. */
export function lineSample(place: number, isColored: boolean): string {
  return join([..."━━"].map((letter) => glyph(letter, place, isColored)));
}

/** Lines; none when there are fewer than two places to draw a curve between. The places of the curves choose their look. */
export function chart(
  curves: readonly (readonly CurvePoint[] | undefined)[],
  { width, height }: ChartSize,
  isColored: boolean,
): string[] {
  const points = curves.flatMap((curve) => curve ?? []).filter(isNumber);
  const [left, right] = rangeOf(points.map(([x]) => x));
  const [bottom, top] = rangeOf(points.map(([, y]) => y));
  if (points.length < 2 || left === right) return [];
  const labels = labelsOf(bottom, top, height);
  const labelWidth = Math.max(...[...labels.values()].map(widthOf));
  const columns = width - labelWidth - 2;
  if (columns < 8) return [];
  const place = (value: number, [least, most]: readonly [number, number], size: number) =>
    least === most ? (size - 1) / 2 : ((value / 2 - least / 2) / (most / 2 - least / 2)) * (size - 1);
  const toCell = ([x, y]: [number, number]): [number, number] => [
    Math.round(place(x, [left, right], columns)),
    Math.round(place(y, [bottom, top], height)),
  ];
  const grid = Array.from({ length: height }, () => Array<string>(columns).fill(" "));
  // the first run's curve lies on top
  for (const [index, curve] of [...curves.entries()].reverse()) {
    const pieces = piecesOf(curve ?? []).map((piece) => columnsOf(piece.map(toCell)));
    if (pieces.length > 0) drawOn(grid, pieces, (letter) => glyph(letter, index, isColored));
  }
  const lines = grid.map((cells, row) => {
    const label = labels.get(row);
    return `${(label ?? "").padStart(labelWidth)} ${label === undefined ? "│" : "┤"}${join(cells)}`.trimEnd();
  });
  const from = numberWords(left);
  const to = numberWords(right);
  const indent = " ".repeat(labelWidth + 1);
  const gap = Math.max(1, columns - from.length - to.length);
  const middle = gap > 8 ? padEnd(`${" ".repeat(Math.floor((gap - 4) / 2))}step`, gap) : " ".repeat(gap);
  return [...lines, `${indent}└${"─".repeat(columns)}`, `${indent} ${from}${middle}${to}`];
}

/** What a curve does in a column: lines from the bottom, where it leaves the column, and its extremes. */
interface Column {
  column: number;
  end: number;
  least: number;
  most: number;
}

function drawOn(grid: string[][], pieces: readonly Column[][], look: (letter: string) => string): void {
  const [first, last] = rangeOf(pieces.flat().map(({ column }) => column));
  const height = grid.length;
  // the library spreads curves over its whole width: with as many columns as they have, each stays in its own
  const size = { width: last - first + 1, height, yRange: [0, height - 1] satisfies [number, number] };
  const input = pieces.map((piece) => piece.map(({ column, end }): [number, number] => [column, end]));
  // its numbers at the axes collide when there are many: they are ours
  const text = plot(input, { ...size, hideXAxisTicks: true, hideYAxisTicks: true });
  const rows = text.split("\n").filter((line) => line.includes("│"));
  const layer = rows.slice(-height).map((line) => [...line.slice(line.indexOf("│") + 1)]);
  // what the line does not reach stands as a bar in its column
  for (const { column, least, most } of pieces.flat().filter((each) => each.most - each.least > 1)) {
    for (let y = least; y <= most; y += 1) {
      const cells = layer[height - 1 - y];
      if (cells?.[column - first] === " ") cells[column - first] = "┃";
    }
  }
  for (const [row, cells] of layer.entries()) {
    for (const [index, letter] of cells.entries()) {
      const line = grid[row];
      if (line && letters.includes(letter)) line[first + index] = look(letter);
    }
  }
}

function glyph(letter: string, place: number, isColored: boolean): string {
  const [color, own] = palette[place % palette.length] ?? palette[0];
  if (isColored) return `\x1b[${color}m${letter}\x1b[39m`;
  return [...own][letters.indexOf(letter)] ?? letter;
}

/** One sequence for neighbours of one colour. */
function join(cells: readonly string[]): string {
  let color = "";
  let line = "";
  for (const cell of cells) {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the sequences that this file writes
    const [, start = "", letter = cell] = /^(\x1b\[\d+m)(.)/u.exec(cell) ?? [];
    if (start !== color) line += `${color === "" ? "" : "\x1b[39m"}${start}`;
    line += letter;
    color = start;
  }
  return color === "" ? line : `${line}\x1b[39m`;
}

/** The parts between gaps. */
function piecesOf(curve: readonly CurvePoint[]): [number, number][][] {
  const pieces: [number, number][][] = [[]];
  for (const point of curve) {
    if (isNumber(point)) pieces.at(-1)?.push(point);
    else pieces.push([]);
  }
  return pieces.filter((piece) => piece.length > 0);
}

function columnsOf(cells: readonly [number, number][]): Column[] {
  return [...Map.groupBy(cells, ([column]) => column)].map(([column, part]) => {
    const [least, most] = rangeOf(part.map(([, y]) => y));
    return { column, end: part.at(-1)?.[1] ?? least, least, most };
  });
}

/** The numbers beside the lines, by line from the top. */
function labelsOf(bottom: number, top: number, height: number): Map<number, string> {
  const middle = Math.floor((height - 1) / 2);
  if (bottom === top) return new Map([[height - 1 - Math.round((height - 1) / 2), numberWords(top)]]);
  const share = 1 - middle / (height - 1);
  const between = bottom * (1 - share) + top * share;
  // the middle of a curve around zero is nearly zero, and would take many digits
  const isZero = Math.abs(between) < (top / 2 - bottom / 2) * 0.01;
  const words = axisWords([top, isZero ? 0 : between, bottom]);
  return new Map([0, middle, height - 1].map((line, index) => [line, words[index] ?? ""]));
}

function isNumber(point: CurvePoint): point is [number, number] {
  return point[1] !== null;
}

function rangeOf(values: readonly number[]): [least: number, most: number] {
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  return [least, most];
}
