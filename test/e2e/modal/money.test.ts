/** What sandboxes cost: it is told, it ends by itself, a loop cannot multiply it, and gc ends only what is proven to be an orphan. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import {
  assertNothingRuns,
  modalSession,
  runningOf,
  sandboxOf,
  untilNothingRuns,
} from "../../helpers/modal-session.ts";
import { type ModalUser, modalUser } from "../../helpers/modal-user.ts";
import { processesOf } from "../../helpers/processes.ts";
import { whyNot } from "../../modal-emulator/emulator.ts";
import { connect } from "../../modal-emulator/sdk-client.ts";

const reason = await whyNot();
/** after the death of whoever holds it, in seconds */
const longestHold = 300;
const longestIdle = 600;
const longestLifetime = 24 * 3600;

describe("what sandboxes on Modal cost", { skip: reason ?? false }, () => {
  let modal: ModalUser;
  before(async () => {
    modal = await modalUser();
  });
  after(() => modal[Symbol.asyncDispose]());
  beforeEach(() => {
    modal.env["MODAL_SB_CREATIONS_PER_HOUR"] = "1000";
  });

  test("a loop of failures is stopped after so many sandboxes, also for the next command", async () => {
    const made = modal.emulator.sandboxes().length;
    const limit = { MODAL_SB_CREATIONS_PER_HOUR: String(made + 4) };
    await using session = modalSession(modal, ["-s", "loop"], limit);
    await session.turn("hello");
    for (let losses = 1; losses <= 2; losses++) {
      await modal.emulator.preempt(sandboxOf(modal, "loop", "agent").id);
      await session.talk.until("stderr", new RegExp(`(The agent's sandbox was lost[^]*){${losses}}`));
      await session.turn("and now?");
    }
    assert.match(session.talk.stderr(), /The turn failed: modal-sb refuses to make a \d+th sandbox within an hour/);
    assert.equal(modal.emulator.sandboxes().length - made, 4);
    assert.equal(await session.leave(), 3);
    assertNothingRuns(modal);

    const next = await modal.run(["-s", "another", "-p", "hello"], { env: limit });
    assert.equal(next.code, 3);
    assert.match(
      next.stderr,
      /^error: modal-sb refuses to make a \d+th sandbox within an hour: a loop .* would burn money$/m,
    );
    assert.match(next.stderr, /^hint: see what runs with `modal-sb ls`.*creationsPerHour raises the limit$/m);
    assert.equal(modal.emulator.sandboxes().length - made, 4);
  });

  test("a syncer that keeps ending is stopped by the same limit, and the agent goes on without it", async () => {
    const made = modal.emulator.sandboxes().length;
    const env = { MODAL_SB_CREATIONS_PER_HOUR: String(made + 3), TRACKIO_WRITE_TOKEN: "token-of-no-server" };
    await using session = modalSession(modal, ["--metrics", "https://metrics.example", "-s", "unsent"], env);
    await session.turn("hello");
    await modal.emulator.waitFor(() => runningOf(modal, "unsent").length === 3);
    await modal.emulator.preempt(sandboxOf(modal, "unsent", "syncer").id);
    await session.talk.until("stderr", /The syncer of metrics ended, and is started again/);
    await session.talk.until(
      "stderr",
      /The syncer of metrics cannot be started: modal-sb refuses to make a \d+th sandbox/,
    );
    assert.match(await session.turn("still there?"), /You said: still there\?$/m);
    assert.equal(modal.emulator.sandboxes().length - made, 3);
    assert.equal(await session.leave(), 0, session.talk.stderr());
    assertNothingRuns(modal);
  });

  test("every sandbox has its end from the start, and nothing that a killed command leaves holds it for long", async () => {
    const session = modalSession(modal, ["--gpu", "A10", "-s", "dead-man"]);
    await session.turn("!bash (setsid sleep 3600 > /dev/null 2>&1 &); echo begun");
    session.child.kill("SIGKILL");
    await once(session.child, "close");
    const left = runningOf(modal, "dead-man");
    assert.deepEqual(left.map(({ tags }) => tags["role"]).sort(), ["agent", "proxy"]);
    for (const { idleTimeoutSecs, timeoutSecs } of modal.emulator.sandboxes()) {
      assert.ok(idleTimeoutSecs !== undefined && idleTimeoutSecs <= longestIdle, `idle for ${idleTimeoutSecs} s`);
      assert.ok(timeoutSecs <= longestLifetime, `a lifetime of ${timeoutSecs} s`);
    }
    // all that an exec of the host started: socat, which ends when it hears nothing, and holds of a certain length
    const inside = await processesOf(new Set(left.map(({ id }) => id)));
    const links = inside.filter(({ executable }) => /\/socat\d*$/.test(executable));
    assert.ok(links.length >= 2, "one link to the agent and one to the proxy");
    for (const { command } of links) {
      const seconds = Number(/ -T (\d+)/.exec(command)?.[1]);
      assert.ok(seconds <= longestHold, command);
    }
    const holds = inside.filter(({ command }) => /^(\S*\/)?sleep /.test(command) && !command.endsWith(" 3600"));
    for (const { command } of holds) assert.ok(Number(command.split(" ").at(-1)) <= longestHold, command);

    const listed = await modal.run(["ls"]);
    assert.match(listed.stdout, /dead-man +(modal +)?agent +orphaned /);
    assert.match(listed.stdout, /2 orphaned: modal-sb gc$/m);
    const gc = await modal.run(["gc", "--yes"]);
    assert.equal(gc.code, 0, gc.stderr);
    assertNothingRuns(modal);
  });

  test("ls tells what runs, what it costs an hour and what it has cost; leaving tells the price too", async () => {
    const left = await modal.run(["--gpu", "H100", "-s", "dear", "--detach", "-p", "!bash sleep 600"]);
    assert.equal(left.code, 0, left.stderr);
    const [, told] =
      /^The session "dear" goes on without this terminal, for 22 h 5\d min at most, at \$(\d+\.\d\d) an hour\.$/m.exec(
        left.stderr,
      ) ?? [];
    assert.ok(told !== undefined, left.stderr);
    assert.ok(Number(told) > 3 && Number(told) < 8, `an H100 for $${told} an hour`);
    const { stdout } = await modal.run(["ls"]);
    assert.match(stdout, new RegExp(`2 sandboxes of 1 session · \\$${told} an hour · \\$\\d+\\.\\d+ so far`));
    assert.match(stdout, /dear +(modal +)?agent +detached +\d[\w ]* +H100 +22 h 5\d min/);
    const rows = (await modal.run(["ls", "--json"])).stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { usdPerHour: number; spentUsd: number; ageSeconds: number });
    for (const { usdPerHour, spentUsd } of rows) assert.ok(usdPerHour > 0 && spentUsd > 0 && spentUsd < usdPerHour);
    assert.equal(rows.reduce((sum, { usdPerHour }) => sum + usdPerHour, 0).toFixed(2), told);
    const stopped = await modal.run(["stop", "dear"]);
    assert.match(stopped.stderr, /about \$\d+\.\d+ by list price/);
    assertNothingRuns(modal);
  });

  test("gc leaves alone what is others', left on purpose, in use or unknown; past its time, what was left is an orphan", async () => {
    await using used = modalSession(modal, ["-s", "used"]);
    await used.turn("hello");
    const detached = await modal.run(["-s", "left", "--detach", "-p", "!bash sleep 600"]);
    assert.equal(detached.code, 0, detached.stderr);
    const owner = readFileSync(join(modal.user.stateFolder, "modal/installation"), "utf8").trim();
    const strangers = await strangersOf(modal, owner);
    const before = runningOf(modal)
      .map(({ id }) => id)
      .sort();
    const gc = await modal.run(["gc", "--yes"]);
    assert.equal(gc.code, 0, gc.stderr);
    assert.doesNotMatch(gc.stdout, /REMOVE/);
    assert.match(gc.stdout, /keep +left .*left running on purpose until/);
    assert.match(gc.stdout, new RegExp(`keep +used .*in use by process ${used.child.pid}`));
    assert.doesNotMatch(gc.stdout, new RegExp(strangers.foreign.join("|")));
    assert.deepEqual(
      runningOf(modal)
        .map(({ id }) => id)
        .sort(),
      before,
    );

    const file = join(modal.user.stateFolder, "sessions/left.detached.json");
    const record = JSON.parse(readFileSync(file, "utf8")) as { until: string };
    writeFileSync(file, JSON.stringify({ ...record, until: new Date(Date.now() - 1000).toISOString() }));
    const capped = await modal.run(["gc", "--yes", "--max", "1"]);
    assert.equal(capped.code, 2);
    assert.match(
      capped.stderr,
      /^error: 2 sandboxes look like orphans, and no more than 1 go at once\n\nhint: .*modal-sb gc --max 2$/m,
    );
    assert.deepEqual(
      runningOf(modal)
        .map(({ id }) => id)
        .sort(),
      before,
    );
    const removed = await modal.run(["gc", "--yes"]);
    assert.equal(removed.code, 0, removed.stderr);
    assert.deepEqual(runningOf(modal, "left"), []);
    assert.equal(runningOf(modal).length, before.length - 2);
    assert.match(await used.turn("still there?"), /still there\?$/m);
    assert.equal(await used.leave(), 0);
    for (const id of strangers.all) await modal.emulator.preempt(id);
    await untilNothingRuns(modal);
  });
});

/** Sandboxes in the same app that are no session's of this installation, however like one they look. */
async function strangersOf(modal: ModalUser, owner: string): Promise<{ all: string[]; foreign: string[] }> {
  const { client, image } = await connect(modal.emulator);
  const app = await client.apps.fromName("modal-sb", { createIfMissing: true });
  const label = { "modal-sb": "1", role: "agent", name: "ghost-agent", session: "ghost", host: "elsewhere" };
  const make = async (tags: Record<string, string>) => (await client.sandboxes.create(app, image, { tags })).sandboxId;
  const foreign = [
    await make({}),
    await make({ ...label, owner: "0".repeat(32) }),
    await make({ ...label, owner: owner.slice(0, -1) }),
  ];
  const odd = [
    await make({ ...label, owner }),
    await make({ ...label, owner, session: "_2e_2e_2fused", host: "" }),
    await make({ ...label, owner, session: "other", name: "ghost-agent" }),
  ];
  client.close();
  return { all: [...foreign, ...odd], foreign };
}
