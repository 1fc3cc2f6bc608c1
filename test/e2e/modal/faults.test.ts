/**
 * Each thing that can go wrong at Modal, in a whole session: what the user reads, the exit code, whether the conversation goes
 * on, and that nothing is left that costs money.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { variableOf } from "../../../src/config/schema.ts";
import {
  assertNothingRuns,
  modalSession,
  runningOf,
  sandboxOf,
  untilNothingRuns,
} from "../../helpers/modal-session.ts";
import { type ModalUser, modalUser } from "../../helpers/modal-user.ts";
import { temporaryFolder } from "../../helpers/temporary-folder.ts";
import { whyNot } from "../../modal-emulator/emulator.ts";
import { noFaults } from "../../modal-emulator/faults.ts";
import { isInstalled, newest, quiet, runsOf } from "../../syncer/runs.ts";
import { startTrackio, writeToken } from "../../syncer/trackio.ts";

const reason = await whyNot();
const ticks = Array.from({ length: 20 }, (_, index) => `tick ${index + 1}\n`).join("");
const lossWords =
  /Kept: the conversation, \/app and \/data \(but for what was written in the last seconds\)\. Lost: running programs/;

/** A status of GenericResult, and what the user reads when the agent's sandbox ends with it. */
const ends = [
  { status: 4, words: "The agent's sandbox was lost: its lifetime of 1380 min was over." },
  { status: 7, words: "The agent's sandbox was lost: no process of the host was in it for 10 min." },
  { status: 8, words: "The agent's sandbox was lost: it used more memory than its 8192 MiB." },
  { status: 3, words: "The agent's sandbox was lost: Modal took its machine back, as it may with GPUs." },
];

describe("faults of Modal in a whole session", { skip: reason ?? false, concurrency: 2 }, () => {
  describe("that take their time", { concurrency: true }, () => {
    test("a GPU that is never free gives way to the next one; the wait is told", async () => {
      await using modal = await modalUser({ faults: { gpuNeverFree: ["H100"] } });
      const argv = ["--gpu", "H100,A10", "--max-wait", "1", "-s", "next-best", "-p", "hello"];
      const { code, stdout, stderr } = await modal.run(argv);
      assert.equal(code, 0, stderr);
      assert.equal(stdout, "turn 1: You said: hello\n");
      assert.match(stderr, /^waiting for an H100 for \d+ s; next: A10$/m);
      const agents = modal.emulator.sandboxes().filter(({ tags }) => tags["role"] === "agent");
      assert.deepEqual(
        agents.map(({ gpu }) => gpu),
        ["H100", "A10"],
      );
      assertNothingRuns(modal);
    });

    test("no GPU in time: the command ends with words, and the proxy with it", async () => {
      await using modal = await modalUser({ faults: { gpuNeverFree: ["H100"] } });
      const { code, stdout, stderr } = await modal.run(["--gpu", "H100", "--max-wait", "1", "-p", "hello"]);
      assert.equal(code, 3, stderr);
      assert.equal(stdout, "");
      assert.match(stderr, /^waiting for an H100 for \d+ s$/m);
      assert.match(stderr, /^error: There was no GPU of H100 within 1 min$/m);
      assert.match(stderr, /^hint: name more kinds \(--gpu H100,A100-80GB,A10\), wait longer \(--max-wait\)/m);
      assertNothingRuns(modal);
    });

    test("a lifetime that is over: the next turn gets a new sandbox", async () => {
      await using modal = await modalUser();
      await using session = modalSession(modal, ["-s", "short"], { MODAL_SB_LIFETIME_MINUTES: "30" });
      await session.turn("!bash echo precious > /data/file");
      const agent = sandboxOf(modal, "short", "agent");
      assert.equal(agent.timeoutSecs, 30 * 60);
      // as the emulator does by itself after this time, see its own tests
      await modal.emulator.kill(agent.id, 4);
      await session.talk.until("stderr", /The agent's sandbox was lost: its lifetime of 30 min was over\./);
      assert.equal(await session.turn("!bash cat /data/file"), "precious\n");
      assert.equal(await session.leave(), 0, session.talk.stderr());
      assert.match(session.talk.stderr(), lossWords);
      assertNothingRuns(modal);
    });

    for (const [what, faults, why] of [
      ["never comes up", { tunnel502: 100_000 }, /502/],
      // each try lasts so long that they are cut short
      ["never answers", { tunnelSilent: true }, /timed out/],
    ] as const) {
      test(`a tunnel that ${what}: the command says that the agent does not reach its proxy, and why`, async () => {
        await using modal = await modalUser({ faults });
        const { code, stdout, stderr } = await modal.run(["-p", "hello"]);
        assert.equal(code, 3, stderr);
        assert.equal(stdout, "");
        const error = /^error: The agent's sandbox does not reach the credential proxy: (.*)$/m.exec(stderr)?.[1];
        assert.match(error ?? stderr, why);
        assert.match(stderr, /^hint: try again; the provider's network may be in trouble$/m);
        assertNothingRuns(modal);
      });
    }
  });

  describe("one after the other", { concurrency: 1 }, () => {
    let modal: ModalUser;
    before(async () => {
      modal = await modalUser();
      modal.env["MODAL_SB_CREATIONS_PER_HOUR"] = "1000";
    });
    after(() => modal[Symbol.asyncDispose]());
    beforeEach(() => {
      Object.assign(modal.emulator.faults, noFaults());
    });

    /** One turn in a session of its own, which must go as if nothing were wrong. */
    async function assertUnnoticed(name: string, argv: readonly string[] = []) {
      const made = modal.emulator.sandboxes().length;
      const { code, stdout, stderr } = await modal.run([...argv, "-s", name, "-p", "hello"]);
      assert.equal(code, 0, stderr);
      assert.equal(stdout, "turn 1: You said: hello\n");
      assert.doesNotMatch(stderr, /error|lost|failed/i);
      assert.equal(modal.emulator.sandboxes().length - made, 2, "an agent and a proxy, and no more");
      assertNothingRuns(modal);
    }

    /** The session cannot start: words, hint, code, and nothing that runs. */
    async function assertRefused(argv: readonly string[], words: RegExp, env: Record<string, string | undefined> = {}) {
      const { code, stdout, stderr } = await modal.run([...argv, "-p", "hello"], { env });
      assert.equal(code, 3, stderr);
      assert.equal(stdout, "");
      assert.match(stderr, words);
      assert.doesNotMatch(stderr, /The turn failed/, "it is said once");
      assert.doesNotMatch(stderr, /bug in modal-sb|^ +at /m);
      await untilNothingRuns(modal);
    }

    function assertOnlyProxyRuns(session: string) {
      assert.deepEqual(
        runningOf(modal, session).map(({ tags }) => tags["role"]),
        ["proxy"],
      );
    }

    test("answers of creates that are lost make no second sandbox", async () => {
      modal.emulator.faults.loseCreateResponse = 2;
      await assertUnnoticed("lost-answer", ["--gpu", "A10"]);
      assert.equal(modal.emulator.faults.loseCreateResponse, 0);
    });

    test("creates whose answers never come: what was made all the same is found and ended", async () => {
      modal.emulator.faults.loseCreateResponse = 1000;
      await assertRefused(
        ["-s", "no-answer"],
        /^error: Modal could not be reached to make the sandbox "no-answer-proxy"/m,
      );
      assert.equal(modal.emulator.sandboxes().filter(({ tags }) => tags["session"] === "no-answer").length, 1);
    });

    test("creates that take long", async () => {
      modal.emulator.faults.createDelayMs = 1500;
      await assertUnnoticed("slow-create", ["--gpu", "A10"]);
    });

    test("a queue for the GPU", async () => {
      modal.emulator.faults.gpuQueueMs = 2000;
      await assertUnnoticed("queued", ["--gpu", "A10"]);
    });

    test("no capacity: the wait is told, all kinds are asked for again, and the session comes when there is one", async () => {
      modal.emulator.faults.noCapacity = true;
      await using session = modalSession(modal, ["--gpu", "H100,A10", "-s", "full"]);
      const answer = session.turn("hello");
      await session.talk.until("stderr", /^no machine with H100 or A10 is free; asking again in \d+ s$/m);
      assertOnlyProxyRuns("full");
      modal.emulator.faults.noCapacity = false;
      assert.equal(await answer, "turn 1: You said: hello\n");
      assert.equal(await session.leave(), 0);
      assertNothingRuns(modal);
    });

    test("calls that Modal throttles are made again; when it goes on too long, that is said", async () => {
      modal.emulator.faults.throttle = 8;
      await assertUnnoticed("throttled");
      assert.equal(modal.emulator.faults.throttle, 0);
      modal.emulator.faults.throttle = 100_000;
      await assertRefused(
        ["-s", "throttled"],
        /^error: Modal refused to .*a limit of the account is reached: too many requests$/m,
        { MODAL_MAX_THROTTLE_WAIT: "1" },
      );
    });

    test("a control plane that refuses all calls while a turn runs: the turn goes on", async () => {
      await using session = modalSession(modal, ["--gpu", "A10", "-s", "outage"], { MODAL_MAX_THROTTLE_WAIT: "1" });
      await session.turn("hello");
      // a build that takes long is told
      const told = session.talk.stderr();
      modal.emulator.faults.throttle = 100_000;
      assert.equal(await session.turn("!slow 20 100"), ticks, session.talk.stderr());
      modal.emulator.faults.throttle = 0;
      assert.equal(await session.leave(), 0);
      assert.equal(session.talk.stderr(), told);
      await untilNothingRuns(modal);
    });

    test("an address of Modal where nobody answers", async () => {
      await assertRefused(
        ["-s", "far"],
        /^error: Modal could not be reached to .*\n\nhint: see .*status\.modal\.com/m,
        {
          MODAL_SERVER_URL: "http://127.0.0.1:1",
        },
      );
    });

    test("an image that cannot be built", async () => {
      await using folder = await temporaryFolder();
      await writeFile(join(folder.path, "CLAUDE.md"), `Never built before: ${randomBytes(8).toString("hex")}`);
      modal.emulator.faults.buildFails = "no space left on the builder";
      await assertRefused(
        ["-s", "unbuilt", "--instructions", folder.path],
        /^error: Modal could not build the image: [\s\S]*no space left on the builder/m,
      );
    });

    test("a secret that is not stored", async () => {
      await assertRefused(
        ["-s", "secretless"],
        /^error: Modal has no secret "missing-secret" with the variable ANTHROPIC_API_KEY.*\n\nhint: modal secret create missing-secret ANTHROPIC_API_KEY=…$/m,
        { MODAL_SB_SECRET_NAMES: '{"anthropic":"missing-secret"}' },
      );
    });

    test("a tunnel that is not ready, then answers 502, is waited for", async () => {
      modal.emulator.faults.tunnelNotReady = 3;
      modal.emulator.faults.tunnel502 = 3;
      await assertUnnoticed("tunnel");
    });

    test("a main process whose output Modal does not keep", async () => {
      modal.emulator.faults.stdioRetainedBytes = 1;
      await assertUnnoticed("forgotten-output");
    });

    test("streams that break, tokens that expire and empty log items in the middle of a turn: its text comes whole, and once", async () => {
      modal.emulator.faults.emptyLogItems = true;
      await using session = modalSession(modal, ["--gpu", "A10", "-s", "streams"]);
      assert.match(await session.turn("hello"), /You said: hello/);
      // a build that takes long is told
      const told = session.talk.stderr();
      modal.emulator.faults.resetStreams = 5;
      let turns = 1;
      // one turn may come in fewer pieces than there are breaks
      for (; modal.emulator.faults.resetStreams > 0; turns += 1) {
        assert.equal(await session.turn("!slow 20 20"), ticks, session.talk.stderr());
      }
      modal.emulator.faults.routerTokenExpires = 1;
      assert.equal(await session.turn("!slow 20 20"), ticks, session.talk.stderr());
      assert.equal(session.talk.stderr(), told, "the user notices nothing");
      // so many at once that the SDK gives up
      modal.emulator.faults.routerTokenExpires = 3;
      assert.equal(await session.turn("!slow 20 20"), ticks, session.talk.stderr());
      assert.equal(modal.emulator.faults.routerTokenExpires, 0);
      assert.match(await session.turn("and now?"), new RegExp(`^turn ${turns + 3}: You said: and now\\?$`, "m"));
      assert.equal(await session.leave(), 0);
      assert.doesNotMatch(session.talk.stderr(), /Lost:|failed/);
      assert.equal(modal.emulator.sandboxes().filter(({ tags }) => tags["session"] === "streams").length, 2);
      assertNothingRuns(modal);
    });

    test("sandboxes that end between turns: why is said, and the next turn goes on with /data", async () => {
      await using session = modalSession(modal, ["--gpu", "A10", "-s", "ends"]);
      await session.turn("!bash echo precious > /data/file; echo gone > /tmp/file; sync /data");
      for (const { status, words } of ends) {
        await modal.emulator.kill(sandboxOf(modal, "ends", "agent").id, status);
        await session.talk.until("stderr", new RegExp(words));
        assert.equal(await session.turn("!bash cat /data/file; test ! -e /tmp/file"), "precious\n");
      }
      await modal.emulator.preempt(sandboxOf(modal, "ends", "proxy").id);
      await session.talk.until("stderr", /The credential proxy was lost: it was ended from elsewhere/);
      assert.equal(await session.turn("!bash cat /data/file"), "precious\n");
      assert.equal(session.talk.stderr().match(new RegExp(lossWords, "g"))?.length, ends.length + 1);
      assert.equal(await session.leave(), 0);
      assertNothingRuns(modal);
    });

    test("a proxy that ends in the middle of a turn: the turn fails with words, the next one goes on", async () => {
      await using session = modalSession(modal, ["-s", "proxyless"]);
      session.talk.say("!bash echo begun > /data/file; sync /data; sleep 500");
      await session.talk.until("stderr", /sleep 500/);
      await modal.emulator.preempt(sandboxOf(modal, "proxyless", "proxy").id);
      await session.talk.until("stderr", /The turn failed: The credential proxy was lost/);
      assert.match(await session.turn("!bash cat /data/file"), /^$/);
      assert.equal(await session.leave(), 3);
      assertNothingRuns(modal);
    });

    test("a program that eats all memory", async (context) => {
      await using session = modalSession(modal, ["-s", "hungry"], { [variableOf("memoryMiB")]: "768" });
      await session.turn("!bash echo precious > /data/file; sync /data");
      // on Modal the whole sandbox is killed at once, in the emulator one process a moment before
      session.talk.say(`!bash python3 -c "x = b'x' * (1200 << 20); print(len(x))" || sleep 500`);
      await session.talk.until("stdout", /1258291200|END_TURN\n[\s\S]*END_TURN\n$/);
      if (session.talk.stdout().includes("1258291200"))
        return context.skip("this machine has no control groups for memory");
      assert.match(session.talk.stderr(), /The agent's sandbox was lost: it used more memory than its 768 MiB\./);
      session.talk.say("!bash cat /data/file");
      await session.talk.until("stdout", /precious\nEND_TURN\n$/);
      assert.equal(await session.leave(), 3);
      assertNothingRuns(modal);
    });

    test("volumes that are busy: metrics wait, and arrive", async (context) => {
      if (!(await isInstalled(newest, context))) return;
      await using remote = await temporaryFolder();
      await using server = await startTrackio(newest, "own", remote.path);
      await using own = await modalUser({ world: { "metrics.example": new URL(server.address).host } });
      const env = { TRACKIO_WRITE_TOKEN: writeToken };
      await using session = modalSession(own, ["--metrics", "https://metrics.example", "-s", "metered"], env);
      await session.turn("hello");
      own.emulator.faults.reloadBusy = 6;
      const train = `!bash python3 -c 'import trackio; trackio.init(project="p", name="busy", ${quiet.replaceAll("'", '"')}); [trackio.log({"loss": 1 / (i + 1)}) for i in range(30)]; trackio.finish()' 2>&1 && echo trained`;
      assert.match(await session.turn(train), /trained/);
      assert.equal(await session.leave(), 0, session.talk.stderr());
      assert.equal(own.emulator.faults.reloadBusy, 0);
      assert.deepEqual(runsOf(remote.path), { busy: 30 }, session.talk.stderr());
      assertNothingRuns(own);
    });
  });
});
