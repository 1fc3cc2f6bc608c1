/**
 * The live suite's own code, on the emulator: that it asks every question, cleans up and keeps to its budget. The answers it gets
 * here are the emulator's, that is ours: they say nothing about Modal.
 */
import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { ended } from "../helpers/cli.ts";
import { freePort } from "../helpers/free-port.ts";
import { canEmulate, modalUser } from "../helpers/modal-user.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { openAccountOf, sleeping } from "./live-account.ts";
import { questions } from "./questions.ts";
import { RunFolder } from "./run-folder.ts";
import { startSuite } from "./start-suite.ts";

/** of the contract suite, which runs on the emulator in test/contract/ as a whole */
const fewContractTests = "--test-skip-pattern=/^modal live: (?!a volume outlives|a trusted sandbox serves)/";

test("every question has an answer or says why the emulator has none; nothing is left", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser();
  const { emulator } = modal;
  const environment = { ...modal.env, MODAL_SB_LIVE_GPU: "1", MODAL_SB_LIVE_LIMIT_USD: "5" };
  const { code, stdout, stderr } = await ended(startSuite([fewContractTests], environment));
  assert.equal(code, 0, `${stdout}${stderr}`);
  for (const { number } of questions) {
    const lines = stdout.split("\n").filter((line) => line.startsWith(`answer ${number}: `));
    assert.ok(lines.length > 0, `no answer ${number} in ${stdout}`);
    assert.deepEqual(
      lines.filter((line) => /^answer \d+: (none|then it failed)/.test(line)),
      [],
    );
  }
  assert.match(stdout, /Answers of an emulator, which are no answers/);
  assert.match(stdout, /✔ a whole session/);
  assert.match(stdout, /✔ modal live: a volume outlives/);
  const made = emulator.sandboxes();
  assert.deepEqual(
    made.filter(({ running }) => running),
    [],
  );
  assert.deepEqual(emulator.volumes(), []);
  assert.ok(made.some(({ gpu }) => gpu === "T4"));
  assert.deepEqual(
    made.filter(({ timeoutSecs, tags }) => timeoutSecs > 300 && !["proxy", "syncer"].includes(tags["role"] ?? "")),
    [],
  );
  const [, booked, limit] = /booked: \$(\d\.\d+) of \$(\d\.\d\d),/.exec(stdout) ?? [];
  assert.equal(limit, "1.00", "the limit cannot be raised");
  assert.ok(Number(booked) > 0.1 && Number(booked) < 1, `$${booked}`);
});

test("the measures tell one cloud from another", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser({ faults: { emptyLogItems: true, stdioRetainedBytes: 100_000 } });
  const { stdout } = await ended(startSuite(["--test-name-pattern=/question (2|3):/"], modal.env));
  assert.match(stdout, /^answer 2: V1: of 1048576 bytes of output a late reader gets 1048576,/m);
  assert.match(stdout, /^answer 2: V2: of 1048576 bytes of output a late reader gets 99996,/m);
  assert.match(stdout, /^answer 3: V1 log items: 5 of 7 had no data$/m);
  assert.match(stdout, /^answer 3: V1: the SDK's own stream gave nothing within/m);
});

test("the budget refuses before anything is made", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser();
  const some = "--test-name-pattern=/question (4|9):|a whole session|modal live: a trusted sandbox serves/";
  const environment = { ...modal.env, MODAL_SB_LIVE_GPU: "1", MODAL_SB_LIVE_LIMIT_USD: "0" };
  const { code, stdout } = await ended(startSuite([some], environment));
  assert.equal(code, 1, stdout);
  assert.match(stdout, /^answer 4: none: the budget refuses a sandbox of v1 for \$0\.00\d+: \$0\.0000 of \$0\.00/m);
  assert.match(stdout, /^answer 9: none: the budget refuses/m);
  assert.match(stdout, /the budget refuses the agent of a session/);
  assert.match(stdout, /the budget refuses a trusted sandbox of the contract/);
  assert.match(stdout, /^booked: \$0\.0000 of \$0\.00/m);
  assert.deepEqual(modal.emulator.sandboxes(), []);
});

test("an interruption ends what runs", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser();
  const { emulator } = modal;
  const suite = startSuite(["--test-name-pattern=question 6:"], modal.env);
  const ending = ended(suite);
  await emulator.waitFor(() => emulator.sandboxes().some(({ running }) => running));
  suite.kill("SIGINT");
  const { code, stdout, stderr } = await ending;
  assert.equal(code, 130, `${stdout}${stderr}`);
  assert.match(stdout, /ended what was still running: sb-/);
  assert.deepEqual(
    emulator.sandboxes().filter(({ running }) => running),
    [],
  );
  assert.deepEqual(emulator.volumes(), []);
});

test("the start ends what a killed run left, and nothing of others", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser();
  const { emulator } = modal;
  const server = emulator.environment["MODAL_SERVER_URL"] as string;
  using ours = await openAccountOf(emulator, "modal-sb-live");
  using others = await openAccountOf(emulator, "somebody");
  const left = [await sleeping(ours, "v1", { "modal-sb-live": "1" }), await sleeping(ours, "v2", { "modal-sb": "1" })];
  const kept = [await sleeping(ours, "v2", {}), await sleeping(others, "v2", { "modal-sb-live": "1" })];
  for (const name of ["left", "kept"]) await ours.account.client.volumes.fromName(name, { createIfMissing: true });
  const folder = RunFolder.create(server, deadPid);
  folder.addVolume("left");
  context.after(() => rm(folder.path, { recursive: true, force: true }));
  const { stdout } = await ended(startSuite(["--test-name-pattern=no such test"], modal.env));
  assert.match(stdout, /ended what an earlier run had left/);
  const running = emulator.sandboxes().filter(({ running }) => running);
  assert.deepEqual(running.map(({ id }) => id).sort(), kept.toSorted());
  assert.equal(left.filter((id) => stdout.includes(id)).length, 2);
  assert.deepEqual(
    emulator.volumes().map(({ name }) => name),
    ["kept"],
  );
});

test("without credentials one line says that nothing was run", async () => {
  await using home = await temporaryFolder();
  const nothing = { MODAL_TOKEN_ID: undefined, MODAL_TOKEN_SECRET: undefined, MODAL_PROFILE: undefined };
  const environment = { ...nothing, HOME: home.path, MODAL_CONFIG_PATH: join(home.path, "no-modal.toml") };
  const { code, stdout, stderr } = await ended(startSuite([], environment));
  assert.deepEqual([code, stderr], [0, ""]);
  assert.match(stdout, /^The live suite was not run: there are no credentials of Modal; .*\n$/);
});

test("a Modal that cannot be reached is an error in one line", async () => {
  await using home = await temporaryFolder();
  const environment = {
    ...{
      MODAL_TOKEN_ID: "ak-test",
      MODAL_TOKEN_SECRET: "as-test",
      MODAL_CONFIG_PATH: join(home.path, "no-modal.toml"),
    },
    MODAL_SERVER_URL: `http://127.0.0.1:${await freePort()}`,
  };
  const { code, stdout, stderr } = await ended(startSuite([], environment));
  assert.deepEqual([code, stdout], [3, ""]);
  assert.match(stderr, /^The live suite could not run: Modal could not be reached .*\n$/);
});

/** more than any kernel gives */
const deadPid = 2 ** 30;
