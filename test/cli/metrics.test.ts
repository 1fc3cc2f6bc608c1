/** How runs and curves look: pure text, of what the reader gives. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { chart } from "../../src/cli/metrics-chart.ts";
import { folderText, type TextOptions } from "../../src/cli/metrics-text.ts";
import {
  axisWords,
  cutAtLine,
  numberWords,
  oneLine,
  sparkline,
  timeWords,
  widthOf,
} from "../../src/cli/metrics-words.ts";
import type { RunCurves, Series } from "../../src/syncer/curves.ts";
import type { CurvePoint } from "../../src/syncer/thinning.ts";

const plain: TextOptions = { width: 80, chartHeight: 5, isColored: false, now: undefined };

function seriesOf(name: string, ys: readonly (number | null)[], changes: Partial<Series> = {}): Series {
  const numbers = ys.filter((y) => y !== null);
  const points = ys.map((y, x): CurvePoint => [x, y]);
  const range = { least: Math.min(...numbers), most: Math.max(...numbers) };
  const counts = { numbers: numbers.length, gaps: ys.length - numbers.length };
  return { name, latest: ys.at(-1) ?? "NaN", ...counts, ...range, points, ...changes };
}

function runOf(run: string, metrics: Series[], changes: Partial<RunCurves> = {}): RunCurves {
  const steps = { rows: 1234, firstStep: 0, lastStep: 1233, lastTimestamp: "2026-11-24T18:51:33.949622+00:00" };
  return { runId: `id-of-${run}`, run, ...steps, config: null, alerts: 0, metrics, system: [], ...changes };
}

function textOf(runs: RunCurves[], options: Partial<TextOptions> = {}): string {
  const leftOut = { runs: 0, rows: 0, unusable: 0, values: 0 };
  const projects = [{ project: "p", curves: { runs, alerts: [], leftOut }, error: undefined }];
  return folderText({ projects, problems: [] }, { ...plain, ...options });
}

test("one run's metric is a line of values above its curve", () => {
  assert.equal(
    textOf([runOf("only", [seriesOf("loss", [4, 3, null, 1, 0])])], { width: 44 }),
    `p  1 run · 1,234 rows

  run    rows    steps  last logged
  only  1,234  0–1,233  2026-11-24 18:51:33

  loss  0  min 0  max 4  1 not finite
  4 ┤━━━━━━━━━┓
    │         ┗━
  2 ┤
    │                             ━━━━━━━━┓
  0 ┤                                     ┗━
    └───────────────────────────────────────
     0                step                 4`,
  );
});

test("runs share a chart, each with letters or a colour of its own", () => {
  const runs = [runOf("new", [seriesOf("loss", [1, 1, 1])]), runOf("old", [seriesOf("loss", [0, 0, 0])])];
  const lines = textOf(runs, { width: 40 }).split("\n");
  assert.deepEqual(lines.slice(6, 14), [
    "  loss",
    "  ━━ new  1  min 1  max 1",
    "  ══ old  0  min 0  max 0",
    `  1.0 ┤${"━".repeat(33)}`,
    "      │",
    "  0.5 ┤",
    "      │",
    `  0.0 ┤${"═".repeat(33)}`,
  ]);
  const colored = textOf(runs, { width: 40, isColored: true });
  assert.ok(colored.includes(`\x1b[36m${"━".repeat(33)}\x1b[39m`));
  assert.ok(colored.includes(`\x1b[33m${"━".repeat(33)}\x1b[39m`));
  assert.ok(!lines.join().includes("\x1b"));
});

test("charts stand beside each other where there is room, and what is not drawn is named with its value", () => {
  const metrics = [
    ...["a", "b", "c"].map((name) => seriesOf(name, [1, 2])),
    seriesOf("thirteenth", [1, 2], { points: null }),
    seriesOf("word", [], { latest: "hello", least: null, most: null, points: null }),
  ];
  const text = textOf([runOf("r", metrics)], { width: 130 });
  assert.match(text, /^ {2}a {2}2 {2}min 1 {2}max 2 {3,}b {2}2 /m);
  assert.match(text, /^ {2}not drawn: choose with --metric\n {2}thirteenth {2}2\n {2}word {8}hello$/m);
});

test("nothing that an agent names reaches the terminal's controls or leaves its line", () => {
  const evil = `\x1b]0;title\x07\x1b[2J\u202eevil\n\n${"長".repeat(200)}\t${"e\u0301".repeat(200)}\u009b31m`;
  const odd = { latest: evil, least: null, most: null, points: null };
  const metrics = [seriesOf(evil, [1, -1.2345e308, 1.2345e308, null], { latest: evil }), seriesOf(`${evil}2`, [], odd)];
  const runs = [1, 2].map((n) =>
    runOf(`${n}${evil}`, metrics, { lastTimestamp: evil, alerts: 3, system: [seriesOf(evil, [1, 2])] }),
  );
  const leftOut = { runs: 1, rows: 2, unusable: 3, values: 4 };
  const alerts = [{ run: evil, level: evil, title: evil, step: 3 }];
  const projects = [
    { project: "p", curves: { runs, alerts, leftOut }, error: undefined },
    { project: "single", curves: { runs: runs.slice(1), alerts, leftOut }, error: undefined },
    { project: "damaged", curves: undefined, error: evil },
  ];
  for (const width of [40, 80, 200]) {
    const text = folderText({ projects, problems: [evil] }, { ...plain, width });
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are looked for
    assert.doesNotMatch(text, /[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/);
    for (const line of text.split("\n")) assert.ok(widthOf(line) <= width, `${widthOf(line)} columns: ${line}`);
    assert.match(text, /✗ damaged cannot be read: evil/);
    assert.match(text, /4 values not looked at/);
  }
  const colored = folderText({ projects, problems: [evil] }, { ...plain, isColored: true });
  const sequences = colored.split("\x1b").slice(1);
  assert.deepEqual(
    sequences.filter((rest) => !/^\[\d+m/.test(rest)),
    [],
  );
});

test("a curve's extremes are seen at any number of columns", () => {
  const points = Array.from({ length: 1000 }, (_, x): CurvePoint => [x, x === 700 ? 10 : x === 300 ? -10 : 0]);
  const lines = chart([points], { width: 30, height: 9 }, false);
  assert.deepEqual(
    [lines[0]?.search("[┃┓┏]"), lines[8]?.search("[┃┗┛]")].map((at) => Number(at) > 4),
    [true, true],
  );
  // values far apart, and equal ones
  assert.equal(
    chart(
      [
        [
          [0, -1.7e308],
          [1, 1.7e308],
        ],
      ],
      { width: 40, height: 5 },
      false,
    ).length,
    7,
  );
  assert.match(
    chart(
      [
        [
          [0, 3],
          [1, 3],
        ],
      ],
      { width: 40, height: 5 },
      false,
    )[2] ?? "",
    /^3 ┤━+$/,
  );
  // one place is no curve
  assert.deepEqual(
    chart(
      [
        [
          [5, 3],
          [5, 4],
        ],
      ],
      { width: 40, height: 5 },
      false,
    ),
    [],
  );
  assert.deepEqual(chart([[[5, null]], undefined], { width: 40, height: 5 }, false), []);
});

test("numbers and times are short, and equal ones look equal", () => {
  const numbers = [0, 3, -2, 12_000, 0.05123, Math.PI, 123.456, 1e-9, 2.5e-5, 1.5e12, -0.5, 12_345.678];
  assert.deepEqual(numbers.map(numberWords), [
    ...["0", "3", "-2", "12,000", "0.05123", "3.142", "123.5", "1e-9", "2.5e-5", "1.5e12", "-0.5", "12,346"],
  ]);
  assert.deepEqual(axisWords([1, 0.5, 0]), ["1.0", "0.5", "0.0"]);
  assert.deepEqual(axisWords([0.9990029, 0.9990014, 0.999]), ["0.9990029", "0.9990014", "0.9990000"]);
  assert.deepEqual(axisWords([3e-9, 1e-9, 0]), ["3.00e-9", "1.00e-9", "0"]);
  const now = Date.parse("2026-01-01T12:00:00Z");
  assert.deepEqual(
    ["2026-01-01T11:59:59Z", "2026-01-01T11:59:00Z", "2026-01-01T09:00:00Z", "2025-12-01T00:00:00Z"].map((time) =>
      timeWords(time, now),
    ),
    ["just now", "60 s ago", "3 h ago", "32 days ago"],
  );
  assert.deepEqual([timeWords("2030-01-01T00:00:00Z", now), timeWords("never", now)], ["2030-01-01 00:00:00", "never"]);
  assert.equal(sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8), "▁▂▃▄▅▆▇█");
  assert.equal(oneLine("長長長長", 5), "長長…");
  assert.equal(cutAtLine("a\nb\nc", 2), "a\n… 2 more lines: choose with --run and --metric");
});
