/** The host's account of its turns against a real daemon, over a connection that damages lines. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { startScriptedApi } from "../../src/demo/scripted-api.ts";
import { echo } from "../../src/demo/scripts/echo.ts";
import type { EndTurn, HostMessage } from "../../src/protocol/messages.ts";
import { createProvider } from "../../src/sandbox/sandbox.ts";
import { Inheritance } from "../../src/session/inheritance.ts";
import { OpenTurns } from "../../src/session/open-turns.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { type DaemonClient, RunningDaemon } from "./running-daemon.ts";

/** Damages lines that `isDamaged` picks so that nobody can tell whose they are. */
async function withTurns(
  isDamaged: (message: HostMessage) => boolean,
  body: (parts: {
    turns: OpenTurns;
    client: DaemonClient;
    say: (text: string) => Promise<EndTurn>;
    send: (message: HostMessage) => void;
    ends: EndTurn[];
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
  client.listen((event) => {
    turns.take(event);
    if (event.type === "protocol_error") turns.takeProtocolError(event.reason, send);
  });
  const say = (text: string) => {
    const turn = turns.begin(text);
    turns.send(turn, [], send);
    return turn.ended;
  };
  await body({ turns, client, say, send, ends });
}

const isText = (text: string) => (message: HostMessage) => message.type === "user" && message.text === text;

test("a message that arrives damaged is sent again", async () => {
  let isFirst = true;
  const once = (message: HostMessage) => {
    const isIt = isFirst && isText("hello")(message);
    if (isIt) isFirst = false;
    return isIt;
  };
  await withTurns(once, async ({ say, ends }) => {
    const [first, second] = await Promise.all([say("hello"), say("beside")]);
    assert.deepEqual([first.result, second.result], ["success", "success"]);
    assert.equal(ends.length, 2);
  });
});

test("a message that is never understood ends with an error, and the turns beside it do not", () =>
  withTurns(isText("bad"), async ({ say, ends }) => {
    const [before, bad, after] = await Promise.all([say("before"), say("bad"), say("after")]);
    assert.deepEqual([before.result, bad.result, after.result], ["success", "error", "success"]);
    assert.match(bad.error?.message ?? "", /did not understand the message: a line was not JSON/);
    assert.equal(ends.length, 3);
  }));

test("an interrupt is sent again with its message, and a line that is no message ends no turn", async () => {
  let damages = 1;
  const first = (message: HostMessage) => message.type === "user" && damages-- > 0;
  await withTurns(first, async ({ turns, client, say, send }) => {
    const turn = say("!hang");
    turns.interrupt(send);
    assert.equal((await turn).result, "interrupted");
    const next = say("next");
    client.socket.write("rubbish\nrubbish\nrubbish\n");
    assert.equal((await next).result, "success");
  });
});
