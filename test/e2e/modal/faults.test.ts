/**
 * Each thing that can go wrong at Modal, in a whole session: what the user reads, the exit code, whether the conversation goes
 * on, and that nothing is left that costs money.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { whyNot } from "../../modal-emulator/emulator.ts";
import { noFaults } from "../../modal-emulator/faults.ts";
import { assertNothingRuns, modalSession, sandboxOf } from "../../helpers/modal-session.ts";
import { type ModalUser, modalUser } from "../../helpers/modal-user.ts";
import { temporaryFolder } from "../../helpers/temporary-folder.ts";

const reason = await whyNot();

/** numbers of GenericStatus, as Modal tells how a sandbox ended */
const endedBy = { lifetime: 4, idleness: 7, memory: 8 };

describe("faults of Modal in a whole session", { skip: reason ?? false, concurrency: 2 }, () => {
  describe("one after the other", { concurrency: 1 }, () => {
    let modal: ModalUser;
    before(async () => {
      modal = await modalUser();
    });
    after(() => modal[Symbol.asyncDispose]());
    beforeEach(() => {
      Object.assign(modal.emulator.faults, noFaults());
    });

    test("answers of creates that are lost make no second sandbox", async () => {
      const before = modal.emulator.sandboxes().length;
      modal.emulator.faults.loseCreateResponse = 2;
      const { code, stdout, stderr } = await modal.run(["--gpu", "A10", "-s", "lost-answer", "-p", "hello"]);
      assert.equal(code, 0, stderr);
      assert.equal(stdout, "turn 1: You said: hello\n");
      assert.equal(modal.emulator.faults.loseCreateResponse, 0);
      assert.equal(modal.emulator.sandboxes().length - before, 2);
      assertNothingRuns(modal);
    });

    test("lost", async () => {
      await using session = modalSession(modal, ["--gpu", "A10", "-s", "ends"]);
      await session.turn("!bash echo precious > /data/file");
      for (const [how, status] of Object.entries(endedBy)) {
        await modal.emulator.kill(sandboxOf(modal, "ends", "agent").id, status);
        await session.talk.until("stderr", new RegExp(`(The agent's sandbox was lost[^]*){${Object.keys(endedBy).indexOf(how) + 1}}`));
        console.log(await session.turn("!bash cat /data/file"), how);
      }
      await modal.emulator.preempt(sandboxOf(modal, "ends", "proxy").id);
      await session.talk.until("stderr", /proxy was lost/);
      console.log(await session.turn("!bash cat /data/file"));
      console.log(await session.leave());
      console.log(session.talk.stderr());
      assertNothingRuns(modal);
    });

    test("no capacity", async () => {
      modal.emulator.faults.noCapacity = true;
      console.log(await modal.run(["--gpu", "H100,A10", "-s", "none", "-p", "hello"]));
      assertNothingRuns(modal);
    });
    test("create fails", async () => {
      modal.emulator.faults.loseCreateResponse = 1000;
      console.log(await modal.run(["--gpu", "H100,A10", "-s", "none", "-p", "hello"]));
      assertNothingRuns(modal);
    });

    test("throttled", async () => {
      modal.emulator.faults.throttle = 8;
      console.log(await modal.run(["-s", "thr", "-p", "hello"]));
      assertNothingRuns(modal);
    });
    test("build", async () => {
      await using folder = await temporaryFolder();
      await writeFile(join(folder.path, "CLAUDE.md"), `Never built before: ${randomBytes(8).toString("hex")}`);
      modal.emulator.faults.buildFails = "no space left on the builder";
      console.log(await modal.run(["-s", "bld", "--instructions", folder.path, "-p", "hello"]));
      assertNothingRuns(modal);
    });
    test("streams", async () => {
      await using session = modalSession(modal, ["--gpu", "A10", "-s", "streams"]);
      modal.emulator.faults.emptyLogItems = true;
      await session.turn("hello");
      for (const fault of ["resetStreams", "routerTokenExpires"] as const) {
      modal.emulator.faults[fault] = 5;
      console.log(fault, JSON.stringify(await session.turn("!slow 20 50")), modal.emulator.faults);
      }
      console.log(await session.leave());
      console.log(session.talk.stderr());
    });
    test("tunnels", async () => {
      modal.emulator.faults.tunnelNotReadyMs = 2500;
      modal.emulator.faults.tunnel502 = 3;
      console.log(await modal.run(["-s", "tun", "-p", "hello"]));
      assertNothingRuns(modal);
    });
  });
});
