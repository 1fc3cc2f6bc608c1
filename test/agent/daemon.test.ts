import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { appendFile, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { dieMidStream, type Script, text } from "../../src/demo/script.ts";
import { startScriptedApi } from "../../src/demo/scripted-api.ts";
import { echo } from "../../src/demo/scripts/echo.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { type DaemonClient, RunningDaemon, startDaemon, withDaemon } from "./running-daemon.ts";

/** The text that the user saw of a turn. */
function shown(client: DaemonClient, turnId: string): string {
  let text = "";
  for (const event of client.events) {
    if (event.type === "text_delta" && event.turnId === turnId) text += event.text;
  }
  return text;
}

test("a turn streams its text, then ends with it, the nonce and the usage", () =>
  withDaemon(async ({ client }) => {
    const { turnId, end } = client.say("hello");
    const { nonce, result, text, error, usage, costUsd, durationMs } = await end;
    assert.deepEqual(
      { nonce, result, text, error },
      { nonce: `nonce-${turnId}`, result: "success", text: "turn 1: You said: hello", error: null },
    );
    assert.equal(shown(client, turnId), text);
    assert.ok(usage.outputTokens > 0 && costUsd > 0 && durationMs > 0);
  }));

test("the second request carries the first turn", () =>
  withDaemon(async ({ client, api }) => {
    await client.say("my name is Ada").end;
    assert.equal((await client.say("who am I").end).text, "turn 2: You said: who am I");
    assert.match(JSON.stringify(api.requests.at(-1)?.body), /my name is Ada.*You said: my name is Ada.*who am I/);
  }));

test("messages sent while a turn runs are turns of their own, in order", () =>
  withDaemon(async ({ client }) => {
    const turns = ["one", "two", "three"].map((text) => client.say(text));
    const ends = await Promise.all(turns.map((turn) => turn.end));
    assert.deepEqual(
      ends.map((end) => end.text),
      ["turn 1: You said: one", "turn 2: You said: two", "turn 3: You said: three"],
    );
    const queued = client.events.flatMap((event) => (event.type === "turn_queued" ? [event.turnId] : []));
    assert.ok(queued.includes(turns[1]?.turnId ?? "") && queued.includes(turns[2]?.turnId ?? ""));
  }));

test("a tool's call, input and output are events", () =>
  withDaemon(async ({ client, folder }) => {
    const { end } = client.say("!bash pwd");
    assert.match((await end).text, new RegExp(`${folder}/app`));
    const started = await client.waitFor("tool_started");
    assert.deepEqual([started.name, JSON.parse(started.input).command], ["Bash", "pwd"]);
    const ended = await client.waitFor("tool_ended");
    assert.deepEqual([ended.toolId, ended.isError], [started.toolId, false]);
    assert.match(ended.output, /app/);
  }));

test("an interrupt ends the turn, and the session goes on", () =>
  withDaemon(async ({ client }) => {
    const { turnId, end } = client.say("!hang");
    await client.waitFor("text_delta", (event) => event.turnId === turnId);
    client.send({ type: "interrupt" });
    assert.equal((await end).result, "interrupted");
    assert.match((await client.say("still there?").end).text, /still there/);
  }));

test("an interrupt right behind the message ends the turn, too", () =>
  withDaemon(async ({ client }) => {
    const { end } = client.say("!hang");
    client.send({ type: "interrupt" });
    assert.equal((await end).result, "interrupted");
  }));

test("an interrupt ends a running tool", () =>
  withDaemon(async ({ client }) => {
    const { end } = client.say("!bash tail -f /dev/null");
    await client.waitFor("tool_started");
    client.send({ type: "interrupt" });
    assert.equal((await end).result, "interrupted");
  }));

test("an error of the API ends the turn with its status", () =>
  withDaemon(async ({ client }) => {
    const end = await client.say("!error 403").end;
    assert.equal(end.result, "error");
    assert.equal(end.error?.apiStatus, 403);
    assert.match((await client.say("again").end).text, /again/);
  }));

test("a request that is repeated voids the text that it had streamed", async () => {
  await using folder = await temporaryFolder();
  // claude drops words that come together with the connection's end: it breaks when they were shown
  const shown = Promise.withResolvers<void>();
  let requests = 0;
  const once: Script = () => {
    requests += 1;
    return requests === 1
      ? dieMidStream({ afterBlocks: 0, when: shown.promise }, text("lost words"))
      : text("recovered");
  };
  await using api = await startScriptedApi({ script: once });
  await using parts = await startDaemon(folder.path, api);
  const { client } = parts;
  client.listen(({ type }) => {
    if (type === "text_delta") shown.resolve();
  });
  const { turnId, end } = client.say("hello");
  assert.equal((await end).text, "recovered");
  const kinds = client.events.flatMap((event) =>
    "turnId" in event && event.turnId === turnId && /^text_|^status$/.test(event.type) ? [event.type] : [],
  );
  assert.deepEqual(kinds, ["text_delta", "text_discarded", "status", "text_delta", "text_ended"]);
});

test("too many steps end the turn with max_turns", () =>
  withDaemon(async ({ client }) => {
    const end = await client.say("!bash true").end;
    assert.equal(end.result, "max_turns");
  }, 1));

test("claude killed in mid-turn costs that turn; the conversation goes on", () =>
  withDaemon(async ({ client, api, folder }) => {
    await client.say("remember the number 42").end;
    const { turnId, end } = client.say(`!bash touch ${folder}/tool; tail -f ${folder}/tool`);
    await client.waitFor("tool_started", (event) => event.turnId === turnId);
    await killClaude(api);
    assert.equal((await end).result, "error");
    assert.match((await end).error?.message ?? "", /SIGKILL/);
    await client.waitFor("status", (event) => event.kind === "crash");
    assert.match((await client.say("go on").end).text, /You said: go on/);
    assert.match(JSON.stringify(api.requests.at(-1)?.body), /remember the number 42/);
    assert.deepEqual(await processesWith(`tail\0-f\0${folder}/tool`), []);
  }));

test("a daemon that is killed leaves what the next one continues, replayed from any event", async () => {
  await using folder = await temporaryFolder();
  await using api = await startScriptedApi({ script: echo() });
  let seen: number;
  {
    await using first = await startDaemon(folder.path, api);
    const end = await first.client.say("the word is kumquat").end;
    seen = end.seq;
    await first.client.say("second").end;
    await first.daemon.end("SIGKILL");
  }
  await using second = await RunningDaemon.start({ folder: folder.path, origin: api.origin });
  await using client = await second.attach(seen);
  assert.equal((await client.waitFor("hello")).resumed, true);
  assert.equal((await client.waitFor("END_TURN")).text, "turn 2: You said: second");
  assert.ok(client.events.every((event) => event.type === "hello" || event.seq > seen));
  assert.match((await client.say("third").end).text, /third/);
  assert.match(JSON.stringify(api.requests.at(-1)?.body), /kumquat/);
});

test("a torn last line in the event log is cut off", async () => {
  await using folder = await temporaryFolder();
  await using api = await startScriptedApi({ script: echo() });
  let log: string;
  {
    await using first = await startDaemon(folder.path, api);
    await first.client.say("one").end;
    log = join(first.daemon.dataFolder, "sessions/00000000-0000-4000-8000-000000000000/events.ndjson");
  }
  await appendFile(log, '{"seq":99999,"type":"text_del');
  await using second = await RunningDaemon.start({ folder: folder.path, origin: api.origin });
  await using client = await second.attach();
  await client.say("two").end;
  const numbers = (await readFile(log, "utf8"))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line).seq);
  assert.deepEqual(
    numbers,
    Array.from(numbers, (_, index) => index + 1),
  );
});

test("two clients watch one session", () =>
  withDaemon(async ({ client, daemon }) => {
    await using watcher = await daemon.attach();
    const { turnId, end } = client.say("hello");
    await end;
    const seen = await watcher.waitFor("END_TURN", (event) => event.turnId === turnId);
    assert.equal(seen.text, "turn 1: You said: hello");
  }));

test("an interrupt with an id ends that turn, also one that waits, and no other", () =>
  withDaemon(async ({ client, api }) => {
    const running = client.say("!hang");
    await client.waitFor("text_delta", (event) => event.turnId === running.turnId);
    const waiting = client.say("unwanted");
    client.send({ type: "interrupt", turnId: waiting.turnId });
    assert.equal((await waiting.end).result, "interrupted");
    assert.deepEqual(client.endsOf(running.turnId), []);
    client.send({ type: "interrupt", turnId: "nobody's" });
    client.send({ type: "interrupt", turnId: running.turnId });
    assert.equal((await running.end).result, "interrupted");
    assert.equal((await client.say("fine").end).result, "success");
    assert.ok(!JSON.stringify(api.requests.map(({ body }) => body)).includes("unwanted"));
  }));

test("an interrupt right behind a message ends its turn when claude is not running", () =>
  withDaemon(async ({ client, api }) => {
    const crashes = () => client.events.filter((event) => event.type === "status" && event.kind === "crash").length;
    while (crashes() < 3) {
      await killClaude(api);
      await delay(20);
    }
    const ids = { turnId: "behind", nonce: "n" };
    const lines = [
      { type: "user", ...ids, text: "unwanted" },
      { type: "interrupt", turnId: ids.turnId },
    ];
    client.socket.write(lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
    assert.equal((await client.waitFor("END_TURN", (event) => event.turnId === "behind")).result, "interrupted");
    assert.equal((await client.say("fine").end).result, "success");
    assert.ok(!JSON.stringify(api.requests.map(({ body }) => body)).includes("unwanted"));
  }));

test("a message of 2 MB arrives whole", () =>
  withDaemon(async ({ client, api }) => {
    const end = await client.say("x".repeat(2_000_000)).end;
    assert.equal(end.error?.message, undefined);
    assert.equal(end.result, "success");
    assert.ok(JSON.stringify(api.requests.at(-1)?.body).length > 2_000_000);
    assert.ok(Buffer.byteLength(JSON.stringify(end)) < 1024 * 1024);
  }));

test("a full data volume is said once, the turn still ends, and what was written before is whole", async (context) => {
  if (process.getuid?.() !== 0) return context.skip("only root can mount a small disk");
  await using folder = await temporaryFolder();
  await using api = await startScriptedApi({ script: echo() });
  const data = join(folder.path, "data");
  await mkdir(data);
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=4m", "small", data]);
  try {
    await using parts = await startDaemon(folder.path, api);
    const { client } = parts;
    await client.say("one").end;
    await writeFile(join(data, "filler"), Buffer.alloc(8 * 1024 * 1024)).catch(() => {});
    assert.equal((await client.say("!many 2000").end).text.length > 1000, true);
    const notices = client.events.filter((event) => event.type === "status" && event.message.includes("is full"));
    assert.ok(notices.length >= 1);
    await rm(join(data, "filler"));
    assert.match((await client.say("two").end).text, /You said: two/);
    const log = await readFile(join(data, "sessions/00000000-0000-4000-8000-000000000000/events.ndjson"), "utf8");
    for (const line of log.trimEnd().split("\n")) JSON.parse(line);
    await parts.daemon.end();
  } finally {
    execFileSync("umount", [data]);
  }
});

test("SIGTERM in mid-turn ends the turn, and the daemon with code 0", () =>
  withDaemon(async ({ client, daemon }) => {
    const { turnId, end } = client.say("!hang");
    await client.waitFor("text_delta", (event) => event.turnId === turnId);
    assert.equal(await daemon.end(), 0);
    assert.equal((await end).result, "interrupted");
  }));

test("CLAUDE.md and skills of /app/.claude are in the request; the environment cannot redirect it", async () => {
  await using folder = await temporaryFolder();
  await using api = await startScriptedApi({ script: echo() });
  const claude = join(folder.path, "app/.claude");
  await mkdir(join(claude, "skills/juggling"), { recursive: true });
  await writeFile(join(claude, "CLAUDE.md"), "Always speak of quinces.");
  await writeFile(
    join(claude, "skills/juggling/SKILL.md"),
    "---\nname: juggling\ndescription: How to juggle five quinces\n---\nThrow them.",
  );
  await writeFile(
    join(claude, "settings.json"),
    JSON.stringify({ env: { ANTHROPIC_BASE_URL: "http://127.0.0.1:9", ANTHROPIC_API_KEY: "other" } }),
  );
  await using parts = await startDaemon(folder.path, api);
  assert.equal((await parts.client.say("hello").end).result, "success");
  const request = api.requests.at(-1);
  assert.match(JSON.stringify(request?.body), /Always speak of quinces/);
  assert.match(JSON.stringify(request?.body), /How to juggle five quinces/);
  assert.equal(request?.headers["x-api-key"], "sb-test.token");
});

/** Kills the claude that talks to `api`: the one with its origin in the environment. */
async function killClaude(api: { origin: string }): Promise<void> {
  for (const { pid, command, environment } of await processes()) {
    if (command.includes("claude-agent-sdk-linux") && environment.includes(api.origin)) process.kill(pid, "SIGKILL");
  }
}

async function processesWith(command: string): Promise<number[]> {
  const found = (await processes()).filter((process) => process.command.includes(command));
  return found.map((process) => process.pid);
}

async function processes(): Promise<{ pid: number; command: string; environment: string }[]> {
  const pids = (await readdir("/proc")).map(Number).filter(Number.isInteger);
  const read = (pid: number, name: string) => readFile(`/proc/${pid}/${name}`, "utf8").catch(() => "");
  return Promise.all(
    pids.map(async (pid) => ({ pid, command: await read(pid, "cmdline"), environment: await read(pid, "environ") })),
  );
}

test("a message that comes twice with one turn's id is one turn", () =>
  withDaemon(async ({ client }) => {
    const { turnId, end } = client.say("once");
    client.send({ type: "user", turnId, nonce: "other", text: "once" });
    client.send({ type: "user", turnId, nonce: "other", text: "once" });
    await end;
    assert.equal((await client.say("next").end).text, "turn 2: You said: next");
  }));
