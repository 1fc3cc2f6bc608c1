import assert from "node:assert/strict";
import type { Sandbox } from "modal";
import { type Backend, backends, type Cloud, nameOf, run, shell } from "./cloud.ts";
import { median, msUntil, outcomeOf, question } from "./question.ts";

const deadlineMs = 30_000;
/** for a stream of the SDK that may wait for ever */
const stallMs = 10_000;
const mib = 1024 * 1024;

question(1, async ({ cloud, answer }) => {
  for (const backend of backends) {
    const sandbox = await cloud.make(backend, { command: ["sh", "-c", "cat > /tmp/in"] });
    const second = await cloud.handle(sandbox);
    await sandbox.stdin.writeText("first\n");
    await sandbox.stdin.writeText("second\n");
    const ofSecond = await outcomeOf(async () => {
      await second.stdin.writeText("other\n");
      return "accepted";
    });
    const ofFirst = await outcomeOf(async () => {
      await sandbox.stdin.writeText("last\n");
      return "accepted";
    });
    // what the first handle writes later stands behind what the second one wrote, if that has arrived
    await msUntil(async () => (await shell(sandbox, "cat /tmp/in")).includes("last"), deadlineMs);
    const arrived = (await shell(sandbox, "cat /tmp/in")).trimEnd().split("\n");
    answer(
      `${nameOf(backend)}: a second handle's write is ${ofSecond}, the first one's next is ${ofFirst}; arrived: ${arrived.join(" ")}`,
    );
  }
});

question(2, async ({ cloud, answer }) => {
  const outputBytes = cloud.isEmulator ? mib : 8 * mib;
  for (const backend of backends) {
    answer(`${nameOf(backend)}: standard input of a main process takes ${await largestInput(cloud, backend)}`);
    answer(`${nameOf(backend)}: ${await lateReader(cloud, backend, outputBytes)}`);
    const sandbox = await cloud.make(backend);
    answer(`${nameOf(backend)}: a line to an exec and back takes ${await roundTripMs(sandbox)} ms (median of 20)`);
    const sent = "x".repeat(4 * mib);
    const started = await sandbox.exec(["wc", "-c"]);
    for (let start = 0; start < sent.length; start += mib)
      await started.stdin.writeText(sent.slice(start, start + mib));
    await started.stdin.close();
    const counted = Number(await started.stdout.readText());
    answer(`${nameOf(backend)}: of ${sent.length} bytes to an exec in pieces of 1 MiB, ${counted} arrived`);
    assert.equal(counted, sent.length, "pieces of 1 MiB reach an exec");
  }
});

async function largestInput(cloud: Cloud, backend: Backend): Promise<string> {
  const sandbox = await cloud.make(backend, { command: ["sh", "-c", "cat > /dev/null"] });
  let largest = "less than 1 MiB in a message";
  for (const size of cloud.isEmulator ? [1, 4] : [1, 2, 4, 8, 17]) {
    const outcome = await outcomeOf(() => sandbox.stdin.writeText("x".repeat(size * mib)));
    if (outcome.startsWith("error")) return `${largest}; ${size} MiB: ${outcome}`;
    largest = `${size} MiB in a message`;
  }
  return `${largest}; more was not tried`;
}

/** What somebody reads who comes after all has been written. */
async function lateReader(cloud: Cloud, backend: Backend, bytes: number): Promise<string> {
  const script = `head -c ${bytes} /dev/zero | tr '\\0' x; echo END; touch /tmp/written; exec sleep 600`;
  const sandbox = await cloud.make(backend, { command: ["sh", "-c", script] });
  const isWritten = async () => (await run(sandbox, ["test", "-e", "/tmp/written"])).code === 0;
  const ms = await msUntil(isWritten, deadlineMs);
  if (ms === undefined) return "output that nobody reads blocks the main process";
  const second = await cloud.handle(sandbox);
  const pieces = backend === "v1" ? logItems(cloud, second, AbortSignal.timeout(deadlineMs)) : streamed(second);
  let read = 0;
  let largest = 0;
  let tail = "";
  for await (const piece of pieces) {
    read += piece.length;
    largest = Math.max(largest, piece.length);
    tail = (tail + piece).slice(-4);
    if (tail === "END\n") break;
  }
  if (tail === "END\n") read -= tail.length;
  return `of ${bytes} bytes of output a late reader gets ${read}, in pieces of at most ${largest}`;
}

/** What the SDK's own stream gives; it ends when nothing more has come for a while. */
async function* streamed(sandbox: Sandbox): AsyncGenerator<string> {
  const reader = (sandbox.stdout as ReadableStream<string>).getReader();
  const giveUp = () => void reader.cancel().catch(() => {});
  try {
    for (;;) {
      const timer = setTimeout(giveUp, deadlineMs);
      const { done, value } = await reader.read().finally(() => clearTimeout(timer));
      if (done) return;
      yield value;
    }
  } finally {
    giveUp();
  }
}

/** The data of all log items of standard output at the older backend, empty ones too, until its end or the signal. */
async function* logItems(cloud: Cloud, { sandboxId }: Sandbox, signal: AbortSignal): AsyncGenerator<string> {
  const { cpClient } = cloud.account("v1").client;
  let lastEntryId = "0-0";
  while (!signal.aborted) {
    const request = { sandboxId, fileDescriptor: 1, timeout: 55, lastEntryId };
    try {
      for await (const batch of cpClient.sandboxGetLogs(request, { signal })) {
        lastEntryId = batch.entryId;
        for (const { data } of batch.items) yield data;
        if (batch.eof) return;
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }
}

async function roundTripMs(sandbox: Sandbox): Promise<number> {
  const started = await sandbox.exec(["cat"]);
  const reader = (started.stdout as ReadableStream<string>).getReader();
  const times: number[] = [];
  for (let round = 0; round < 20; round++) {
    const startedAt = performance.now();
    await started.stdin.writeText("line\n");
    for (let line = ""; !line.endsWith("\n"); ) line += (await reader.read()).value ?? "\n";
    times.push(performance.now() - startedAt);
  }
  await started.stdin.close();
  await reader.cancel();
  return Math.round(median(times));
}

question(3, async ({ cloud, answer }) => {
  const sandbox = await cloud.make("v1", { command: ["sh", "-c", "echo one; sleep 2; echo two; sleep 2"] });
  const firstWords = readOnce(sandbox);
  const items: string[] = [];
  for await (const item of logItems(cloud, sandbox, AbortSignal.timeout(deadlineMs))) items.push(item);
  answer(`V1 log items: ${items.filter((data) => data === "").length} of ${items.length} had no data`);
  answer(`V1: the SDK's own stream gave ${await firstWords}`);
  assert.equal(items.join(""), "one\ntwo\n", "all output comes through the log items");
});

async function readOnce(sandbox: Sandbox): Promise<string> {
  const startedAt = Date.now();
  const reader = (sandbox.stdout as ReadableStream<string>).getReader();
  const giveUp = setTimeout(() => void reader.cancel().catch(() => {}), stallMs);
  const { value } = await reader.read();
  clearTimeout(giveUp);
  await reader.cancel();
  return value === undefined
    ? `nothing within ${stallMs / 1000} s`
    : `"${value.trim()}" after ${Date.now() - startedAt} ms`;
}
