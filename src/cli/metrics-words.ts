/** Numbers, times and columns as people read them. Pure. */
import { stripVTControlCharacters } from "node:util";
import { sanitizeText } from "../sanitize.ts";

/** Four digits that matter: 0.0512, 3.142, 12,000, 1.2e-9. */
export function numberWords(value: number): string {
  const size = Math.abs(value);
  if (value === 0 || (Number.isInteger(value) && size < 1e7)) return value.toLocaleString("en-US");
  if (size >= 1e7 || size < 1e-3)
    return value
      .toExponential(3)
      .replace(/\.?0+e/, "e")
      .replace("e+", "e");
  const decimals = Math.max(0, 3 - Math.floor(Math.log10(size)));
  return Number(value.toFixed(decimals)).toLocaleString("en-US", { maximumFractionDigits: decimals });
}

/** Numbers of one axis, all written in the same way, so that they stand below each other. */
export function axisWords(values: readonly number[]): string[] {
  const most = Math.max(...values.map(Math.abs));
  if (most === 0) return values.map(() => "0");
  const spread = Math.max(...values) / 2 - Math.min(...values) / 2;
  if (most >= 1e7 || most < 1e-3) {
    return values.map((value) => (value === 0 ? "0" : value.toExponential(2).replace("e+", "e")));
  }
  if (values.every(Number.isInteger)) return values.map((value) => value.toLocaleString("en-US"));
  const decimals = Math.min(8, Math.max(0, 2 - Math.floor(Math.log10(spread || most))));
  const form = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  let words = values.map((value) => value.toLocaleString("en-US", form));
  while (words.every((each) => /\.\d+0$/.test(each))) words = words.map((each) => each.slice(0, -1));
  return words;
}

/** `timestamp`: ISO 8601, or whatever stood in its place. `now` undefined: the time itself, in UTC. */
export function timeWords(timestamp: string | null, now: number | undefined): string {
  if (timestamp === null) return "";
  const time = Date.parse(timestamp);
  if (Number.isNaN(time)) return oneLine(timestamp, 19);
  const seconds = now === undefined ? -Infinity : Math.round((now - time) / 1000);
  // a clock of a sandbox may be a little ahead
  if (seconds < -60) return new Date(time).toISOString().slice(0, 19).replace("T", " ");
  if (seconds < 10) return "just now";
  if (seconds < 90) return `${seconds} s ago`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 36 * 3600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86_400)} days ago`;
}

/** Words of somebody hostile, on one line and no wider than `width`. */
export function oneLine(text: string, width: number): string {
  return cutTo(sanitizeText(text).replace(/\s+/g, " ").trim(), width);
}

/** `line` has no escape sequences. */
export function cutTo(line: string, width: number): string {
  if (widthOf(line) <= width) return line;
  let kept = "";
  let left = width - 1;
  for (const letter of line) {
    left -= widthOf(letter);
    if (left < 0) break;
    kept += letter;
  }
  return `${kept}…`;
}

/** The first lines of a text, and how many there are besides. */
export function cutAtLine(text: string, lines: number): string {
  const all = text.split("\n");
  if (all.length <= lines) return text;
  const kept = Math.max(0, lines - 1);
  return [...all.slice(0, kept), `… ${all.length - kept} more lines: choose with --run and --metric`].join("\n");
}

/** Columns of a terminal; escape sequences have none. */
export function widthOf(text: string): number {
  const plain = stripVTControlCharacters(text);
  let width = 0;
  for (const letter of plain) width += marks.test(letter) ? 0 : wide.test(letter) ? 2 : 1;
  return width;
}

/** they stand over the letter before them */
const marks = /^[\p{Mn}\p{Me}]$/u;
/** East Asian letters and emoji fill two columns */
const wide =
  /^[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]$/u;

export function padEnd(text: string, width: number): string {
  return text + " ".repeat(Math.max(0, width - widthOf(text)));
}

function padStart(text: string, width: number): string {
  return " ".repeat(Math.max(0, width - widthOf(text))) + text;
}

/** Lines with their cells below each other. `right`: the columns that end on one line, as numbers do. */
export function table(rows: readonly (readonly string[])[], right: ReadonlySet<number>): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [index, cell] of row.entries()) widths[index] = Math.max(widths[index] ?? 0, widthOf(cell));
  }
  return rows.map((row) =>
    row
      .map((cell, index) => (right.has(index) ? padStart(cell, widths[index] ?? 0) : padEnd(cell, widths[index] ?? 0)))
      .join("  ")
      .trimEnd(),
  );
}

const blocks = "▁▂▃▄▅▆▇█";

/** A curve on one line, `width` columns at most. */
export function sparkline(values: readonly number[], width: number): string {
  const least = Math.min(...values) / 2;
  const spread = Math.max(...values) / 2 - least;
  const columns = Math.min(width, values.length);
  return Array.from({ length: columns }, (_, column) => {
    const part = values.slice(
      Math.floor((column * values.length) / columns),
      Math.floor(((column + 1) * values.length) / columns),
    );
    const height = spread === 0 ? 0 : (Math.max(...part) / 2 - least) / spread;
    return blocks[Math.min(7, Math.floor(height * 8))];
  }).join("");
}
