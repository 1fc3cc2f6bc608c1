/** The host's account of its turns against a real daemon, over a connection that damages lines. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type ScriptedApi, startScriptedApi } from "../../src/demo/scripted-api.ts";
import { echo } from "../../src/demo/scripts/echo.ts";
import type { AgentEvent, EndTurn, HostMessage } from "../../src/protocol/messages.ts";
import { createProvider } from "../../src/sandbox/sandbox.ts";
import { Inheritance } from "../../src/session/inheritance.ts";
import { OpenTurns } from "../../src/session/open-turns.ts";
import { type DaemonClient, RunningDaemon } from "../agent/running-daemon.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";

/** Damages lines that `isDamaged` picks so that nobody can tell whose they are. */
async function withTurns(
  isDamaged: (message: HostMessage) => boolean,
  body: (parts: {
    turns: OpenTurns;
    client: DaemonClient;
    say: (text: string) => Promise<EndTurn>;
    send: (message: HostMessage) => void;
    api: ScriptedApi;
    /** published by the host */
    ends: EndTurn[];
    /** events of a turn that the host passes on */
    heard: string[];
    /** ends that the host takes for a stranger's */
    unknown: AgentEvent[];
  }) => Promise<void>,
): Promise<void> {
  await using folder = await temporaryFolder();
  await using api = await startScriptedApi({ script: echo() });
  await using daemon = await RunningDaemon.start({ folder: folder.path, origin: api.origin });
  await using client = await daemon.attach();
  await using provider = await createProvider("local", { stateFolder: folder.path, hostEnvironment: process.env });
  const ends: EndTurn[] = [];
  const inheritance = new Inheritance({ provider, name: "test", stateFolder: folder.path });
  const turns = new OpenTurns(inheritance, (end) => ends.push(end));
  const send = (message: HostMessage) => {
    client.socket.write(`${JSON.stringify(message).slice(isDamaged(message) ? 1 : 0)}\n`);
  };
  const heard: string[] = [];
  const unknown: AgentEvent[] = [];
  client.listen((event) => {
    const whose = turns.take(event);
    if (whose === "unknown") unknown.push(event);
    if (whose === "open" && "turnId" in event && event.turnId !== undefined) heard.push(event.turnId);
    if (event.type === "protocol_error") turns.takeProtocolError(event.reason, send);
  });
  const say = (text: string) => {
    const turn = turns.begin(text);
    turns.send(turn, [], send);
    return turn.ended;
  };
  await body({ turns, api, client, say, send, ends, heard, unknown });
}

const isText = (text: string) => (message: HostMessage) => message.type === "user" && message.text === text;

test("a damaged message ends with an error, and so does one sent right behind it, which claude never gets", () =>
  withTurns(isText("quince"), async ({ turns, api, client, say, send, ends, unknown }) => {
    const before = say("!hang");
    const [bad, behind] = await Promise.all([say("quince"), say("kumquat")]);
    for (const { result, error } of [bad, behind]) {
      assert.equal(result, "error");
      assert.match(error?.message ?? "", /did not understand the message: a line was not JSON/);
    }
    // the daemon has got this one, and answers for it
    const answer = await client.waitFor("END_TURN", ({ turnId }) => turnId === behind.turnId);
    assert.equal(answer.result, "interrupted");
    turns.interrupt(send);
    assert.equal((await before).result, "interrupted");
    assert.equal((await say("after")).result, "success");
    assert.equal(ends.length, 4);
    assert.deepEqual(unknown, []);
    assert.doesNotMatch(JSON.stringify(api.requests.map(({ body }) => body)), /kumquat/);
  }));

test("damaged lines before a message end its turn once, here and in the daemon, and nothing more is heard of it", () =>
  withTurns(isText("never"), async ({ client, say, ends, unknown, heard }) => {
    client.socket.write("rubbish\nrubbish\n");
    const { turnId, result } = await say("!hang");
    assert.equal(result, "error");
    assert.equal((await client.waitFor("END_TURN", (event) => event.turnId === turnId)).result, "interrupted");
    assert.equal((await say("next")).result, "success");
    assert.deepEqual(
      ends.map((end) => end.result),
      ["error", "success"],
    );
    assert.deepEqual(unknown, []);
    assert.ok(!heard.includes(turnId));
  }));

test("a line that is no message ends no turn that the daemon has spoken of", () =>
  withTurns(isText("never"), async ({ turns, client, say, send }) => {
    const turn = say("!hang");
    await client.waitFor("turn_started");
    client.socket.write("rubbish\n");
    await client.waitFor("protocol_error");
    turns.interrupt(send);
    assert.equal((await turn).result, "interrupted");
  }));
