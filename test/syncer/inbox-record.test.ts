/** Which rows may go into a Space's inbox: the real importer of trackio takes each that does, and stops at others. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { inboxRecord } from "../../src/syncer/inbox-record.ts";
import type { CountedTable } from "../../src/syncer/rows.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { isInstalled, newest } from "./runs.ts";
import { python } from "./trackio.ts";

const time = "2026-01-01T00:00:00.5+00:00";
const trace = (fields: string) => `{"t":{"_type":"trackio.trace"${fields}}}`;
const nested = (depth: number) => `${'{"a":'.repeat(depth)}1${"}".repeat(depth)}`;

interface Case {
  table?: CountedTable;
  project?: string;
  metrics?: string;
  step?: string;
  timestamp?: string;
  config?: string;
  run?: string;
}

const passing: Case[] = [
  {},
  { metrics: "{}" },
  { metrics: '{"a":\n\r1,\t"b":[1,"NaN"]}' },
  { metrics: '{"😀":"\\ud83d\\ude00","n":"\\u0000","u":"\u2028"}' },
  { metrics: '{"big":123456789012345678901234567890,"tiny":1e-400,"u64":18446744073709551615}' },
  { metrics: nested(100), config: nested(100) },
  { metrics: trace(',"messages":[{"role":"user"}],"metadata":{"a":1},"spans":[1,null,{"input":[2]}]') },
  { metrics: trace("") },
  { metrics: trace(',"messages":7,"metadata":"x","spans":null') },
  { metrics: '{"t":[{"_type":"trackio.trace"},3,{"_type":"trackio.trace","spans":[]}]}' },
  { metrics: '{"__proto__":{"spans":1},"_type":"trackio.trace","spans":1}' },
  { config: '{"lr":0.1,"__proto__":[]}' },
  { step: "-9223372036854774784" },
  { timestamp: "2026-01-01T00:00:00Z" },
  { run: "a/../../b\\n\\u001b" },
  { project: "p_system" },
  { project: "é".repeat(100) },
  { table: "system_metrics" },
  { table: "alerts", step: "null" },
];

/** `null`: the importer goes on, and the row is lost or spoiled */
const failing: [row: Case, words: RegExp | null][] = [
  [{ metrics: "[1]" }, /has no attribute 'items'/],
  [{ metrics: '"x"' }, /has no attribute 'items'/],
  [{ metrics: trace(',"spans":7') }, /not iterable/],
  [{ metrics: '{"t":[1,{"_type":"trackio.trace","spans":true}]}' }, /not iterable/],
  [{ step: "9223372036854775808" }, /too large/],
  [{ step: "9223372036854775808", table: "alerts" }, /too large/],
  [{ project: "x".repeat(253) }, /File name too long/],
  [{ metrics: nested(260) }, /Recursion limit/],
  [{ config: nested(260) }, /Recursion limit/],
  [{ metrics: '{"a":"\\ud800"}' }, null],
  [{ metrics: '{"\\udc00":1}' }, null],
  [{ metrics: '{"a":1e999}' }, null],
  [{ config: '{"a":-1e999}' }, null],
  [{ metrics: "{" }, null],
  [{ timestamp: "yesterday" }, null],
];

function entryOf(row: Case, index: number): string {
  const { table, project, metrics = '{"a":1}', step = "0", timestamp = time, config = "null", run = "r" } = row;
  const common = `"project":"${project ?? `p${index}`}","run":"${run}","run_id":"r","timestamp":"${timestamp}"`;
  if (table === "alerts") return `{${common},"title":"t","text":null,"level":"warn","step":${step},"alert_id":"a"}`;
  const measured = `{${common},"metrics":${metrics},"log_id":"l"`;
  return table === "system_metrics" ? `${measured}}` : `${measured},"step":${step},"config":${config}}`;
}

/** Imports each line by itself; says for each how many rows there are then, or why it failed. */
const importEach = `
import os, json
from trackio import fragments
from trackio.sqlite_storage import SQLiteStorage
for line in open(os.environ["LINES"], "rb").read().split(b"\\n")[:-1]:
    try:
        records = fragments.parse_fragment_bytes(line)
        project = records[0]["project"] if records else None
        fragments.import_records(records)
        rows = 0
        if project:
            for table in ("metrics", "system_metrics", "alerts", "traces"):
                rows += SQLiteStorage.query_project(project, f"SELECT COUNT(*) AS n FROM {table} WHERE timestamp LIKE '2026-%'")["rows"][0]["n"]
        print(json.dumps(rows))
    except Exception as error:
        print(json.dumps(str(error)))
`;

test("each row that passes is imported, and each that does not would stop the importer or be lost", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using folder = await temporaryFolder();
  const records = passing.map((row, index) => inboxRecord(row.table ?? "metrics", entryOf(row, index)));
  const refused = failing.map(([row], index) => entryOf(row, 1000 + index));
  assert.deepEqual(
    refused.map((entry, index) => inboxRecord(failing[index]?.[0].table ?? "metrics", entry)),
    refused.map(() => undefined),
  );
  const asIfPassed = refused.map((entry, index) => {
    const kind = failing[index]?.[0].table === "alerts" ? "alert" : "metric";
    return `{"v":1,"kind":"${kind}",${entry.slice(1)}`;
  });
  const path = join(folder.path, "lines");
  writeFileSync(path, [...records, ...asIfPassed].map((line) => `${line}\n`).join(""));
  const words = await python(newest, folder.path, importEach, { LINES: path });
  const answers = words
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as unknown);
  for (const [index, row] of passing.entries()) {
    const answer = answers[index];
    assert.ok(typeof answer === "number" && answer >= 1, `${JSON.stringify(row).slice(0, 200)}: ${answer}`);
  }
  for (const [index, [row, expected]] of failing.entries()) {
    const answer = answers[passing.length + index];
    const name = `${JSON.stringify(row).slice(0, 200)}: ${answer}`;
    if (expected) assert.match(String(answer), expected, name);
    else assert.equal(answer, 0, name);
  }
});
