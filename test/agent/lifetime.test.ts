/** The turn in which the agent hears that its sandbox ends. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { startScriptedApi } from "../../src/demo/scripted-api.ts";
import { echo } from "../../src/demo/scripts/echo.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { RunningDaemon } from "./running-daemon.ts";

test("before the sandbox's end the agent is told in a turn of its own, behind the one that runs", async () => {
  // until the turn has begun before the warning is due: nobody knows how long a daemon takes to start
  for (let [lifetimeMs, isEarly] = [4000, false]; !isEarly; lifetimeMs *= 2) {
    const startedAt = performance.now();
    await using folder = await temporaryFolder();
    await using api = await startScriptedApi({ script: echo() });
    await using daemon = await RunningDaemon.start({ folder: folder.path, origin: api.origin, lifetimeMs });
    await using client = await daemon.attach();
    const released = join(folder.path, "released");
    const running = client.say(`!bash until [ -e ${released} ]; do sleep 0.05; done`);
    await client.waitFor("turn_started", (event) => event.turnId === running.turnId);
    isEarly = performance.now() - startedAt < (lifetimeMs * 3) / 4;
    if (!isEarly) continue;
    const { turnId } = await client.waitFor("turn_queued", (event) => event.turnId.startsWith("lifetime-"));
    await client.waitFor("status", ({ message }) => /This sandbox ends in 1 min/.test(message));
    await writeFile(released, "");
    assert.equal((await running.end).result, "success");
    const end = await client.waitFor("END_TURN", (event) => event.turnId === turnId);
    assert.match(end.text, /turn 2: You said: \(From modal-sb, not from the user.\) This sandbox ends in 1 min/);
  }
});
