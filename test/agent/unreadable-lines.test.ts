/** Lines that the daemon cannot read: what it answers, and which turns end. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { withDaemon } from "./running-daemon.ts";

/** Lines that are no message, from the same turn: over the cap, cut off, and without a text. */
function unreadable(turnId: string): string[] {
  const head = `{"type":"user","turnId":"${turnId}","nonce":"nonce-${turnId}",`;
  return [`${head}"text":"${"x".repeat(9 * 1024 * 1024)}"}\n`, `${head}"text":"x\n`, `${head}"text":5}\n`];
}

test("lines that are no message are answered, and the connection goes on", () =>
  withDaemon(async ({ client }) => {
    client.socket.write('not json\n{"type":"unknown"}\n{"type":"user","turnId":5}\n');
    client.socket.write(Buffer.from([0xff, 0xfe, 10]));
    client.socket.write(`${"x".repeat(9 * 1024 * 1024)}\n`);
    await client.waitFor("protocol_error", (event) => event.reason.includes("bytes was dropped"));
    const reasons = client.events.flatMap((event) => (event.type === "protocol_error" ? [event.reason] : []));
    assert.equal(reasons.length, 5);
    assert.equal((await client.say("fine").end).result, "success");
  }));

test("a message that cannot be read ends its turn with an error, once", () =>
  withDaemon(async ({ client, api }) => {
    const words = [/a line of \d+ bytes was dropped: the limit is \d+/, /not JSON/, /no known message/];
    for (const [index, line] of unreadable("damaged").entries()) {
      const turnId = `turn-${index}`;
      client.socket.write(line.replaceAll("damaged", turnId));
      const end = await client.waitFor("END_TURN", (event) => event.turnId === turnId);
      assert.match(end.error?.message ?? "", words[index] as RegExp);
      client.send({ type: "user", turnId, nonce: `nonce-${turnId}`, text: "whole, too late" });
    }
    assert.equal((await client.say("fine").end).result, "success");
    for (const index of words.keys()) {
      assert.deepEqual(client.endsOf(`turn-${index}`), [`error nonce-turn-${index}`]);
    }
    assert.ok(!JSON.stringify(api.requests.map(({ body }) => body)).includes("too late"));
  }));

test("a damaged line ends no turn that runs, waits or has ended", () =>
  withDaemon(async ({ client }) => {
    const running = client.say("!hang");
    await client.waitFor("text_delta", (event) => event.turnId === running.turnId);
    const waiting = client.say("next");
    for (const { turnId } of [running, waiting]) for (const line of unreadable(turnId)) client.socket.write(line);
    client.send({ type: "interrupt", turnId: running.turnId });
    assert.equal((await running.end).result, "interrupted");
    assert.equal((await waiting.end).result, "success");
    for (const line of unreadable(running.turnId)) client.socket.write(line);
    assert.equal((await client.say("last").end).result, "success");
    assert.deepEqual(client.endsOf(running.turnId), [`interrupted nonce-${running.turnId}`]);
    assert.deepEqual(client.endsOf(waiting.turnId), [`success nonce-${waiting.turnId}`]);
    assert.equal(client.events.filter(({ type }) => type === "protocol_error").length, 9);
  }));
