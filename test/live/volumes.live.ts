import assert from "node:assert/strict";
import type { Sandbox } from "modal";
import { run, shell } from "./cloud.ts";
import { msUntil, outcomeOf, question } from "./question.ts";

const deadlineMs = 90_000;

question(6, async ({ cloud, answer }) => {
  const volume = await cloud.volume();
  const readOnly = { "/in": volume.withMountOptions({ readOnly: true }) };
  // as in a session: the agent of the older backend writes, the syncer of the newer one reads
  const writer = await cloud.make("v1", { volumes: { "/out": volume } });
  const reader = await cloud.make("v2", { volumes: readOnly });
  const olderReader = await cloud.make("v1", { volumes: readOnly });

  const startedAt = Date.now();
  const { code, stderr } = await run(writer, ["sh", "-c", "echo one > /out/synced && sync /out"]);
  answer(
    `\`sync\` of a volume in a sandbox ends with ${code} after ${Date.now() - startedAt} ms ${stderr.trim()}`.trimEnd(),
  );
  const reloads = [];
  for (const [name, sandbox] of [
    ["V2", reader],
    ["V1", olderReader],
  ] as const) {
    const outcome = await outcomeOf(() => sandbox.reloadVolumes());
    const seen = await run(sandbox, ["cat", "/in/synced"]);
    const words = `reload of a read-only mount on ${name}: ${outcome === "undefined" ? "done" : outcome}`;
    answer(`${words}; what was synced is ${seen.code === 0 ? "there" : "not there"}`);
    reloads.push(seen.stdout);
  }
  await shell(writer, "echo two > /out/unsynced");
  const isSeen = async () => {
    await reader.reloadVolumes().catch(() => {});
    return (await run(reader, ["test", "-e", "/in/unsynced"])).code === 0;
  };
  const ms = await msUntil(isSeen, deadlineMs);
  answer(
    `without \`sync\` a file is seen ${ms === undefined ? `not within ${deadlineMs / 1000} s` : `after ${ms} ms`}`,
  );
  answer(await tearing(writer, reader, cloud.isEmulator ? 3 : 15));
  assert.equal(code, 0, "sync commits");
  assert.equal(reloads[0], "one\n", "a reload shows what was synced");
});

/** Writes a WAL database where trackio would, without being told to, and reads copies of what has arrived. */
async function tearing(writer: Sandbox, reader: Sandbox, rounds: number): Promise<string> {
  const write = `
import sqlite3, subprocess, time
db = sqlite3.connect("/out/rows.db")
db.execute("pragma journal_mode=wal")
db.execute("create table rows (x)")
end = time.time() + 240
while time.time() < end:
    for _ in range(20):
        db.executemany("insert into rows values (?)", [("x" * 200,)] * 20)
        db.commit()
    subprocess.run(["sync", "/out"])
    time.sleep(0.2)
`;
  const read = `
import glob, shutil, sqlite3
for path in glob.glob("/in/rows.db*"): shutil.copy(path, "/tmp/")
try: print(sqlite3.connect("/tmp/rows.db").execute("pragma quick_check").fetchone()[0][:60])
except Exception as error: print(error)
`;
  const writing = await writer.exec(["python3", "-c", write], { stdout: "ignore", stderr: "ignore" });
  const seen = new Map<string, number>();
  for (let round = 0; round < rounds; round++) {
    const words = await outcomeOf(async () => {
      await reader.reloadVolumes();
      return (await shell(reader, `rm -f /tmp/rows.db*; python3 -c '${read}'`)).trim();
    });
    seen.set(words, (seen.get(words) ?? 0) + 1);
  }
  await writing.stdin.close();
  return `a WAL database under its writer, read ${rounds} times: ${[...seen].map(([words, count]) => `${count} × ${words}`).join(", ")}`;
}
