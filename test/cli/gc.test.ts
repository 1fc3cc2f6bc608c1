/** What goes, and above all what does not. The sandboxes and locks are real; only that somebody has left them is made up. */
import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { collectOrphans } from "../../src/cli/gc.ts";
import type { Output } from "../../src/cli/output.ts";
import { loadConfig } from "../../src/config/load.ts";
import { ModalSbError } from "../../src/errors.ts";
import type { Provider, Role, Sandbox, SandboxRecord } from "../../src/sandbox/provider.ts";
import { createProvider } from "../../src/sandbox/sandbox.ts";
import { readDetached, writeDetached } from "../../src/session/detached.ts";
import { sandboxSpec } from "../helpers/sandbox-spec.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { leftBehind } from "./left-behind.ts";

interface Scene extends AsyncDisposable {
  stateFolder: string;
  local: Provider;
  /** a sandbox that a session's name is on, or none's; its own name fits that unless one is given */
  sandbox(session: string | undefined, role?: Role, name?: string): Promise<Sandbox>;
  gc(
    provider: Provider,
    options?: { yes?: boolean; max?: number; answer?: boolean; terminal?: boolean },
  ): Promise<Outcome>;
}

interface Outcome {
  code: number;
  said: string;
  error: ModalSbError | undefined;
  questions: string[];
}

async function scene(): Promise<Scene> {
  const undo = new AsyncDisposableStack();
  const stateFolder = undo.use(await temporaryFolder()).path;
  await mkdir(join(stateFolder, "sessions"));
  const local = undo.use(await createProvider("local", { stateFolder, hostEnvironment: process.env }));
  const sources = { flags: { stateFolder }, environment: {}, projectFolder: stateFolder, home: stateFolder };
  const config = loadConfig(sources);
  return {
    stateFolder,
    local,
    async sandbox(session, role = "agent", name = `${session}-${role}`) {
      const tags = session === undefined ? {} : { session };
      return undo.use(await local.create(sandboxSpec({ name, role, tags })));
    },
    async gc(provider, { yes = false, max = 20, answer = false, terminal = false } = {}) {
      const questions: string[] = [];
      let said = "";
      const add = (text: string) => {
        said += `${text}\n`;
      };
      const plain = (text: string) => text;
      const output: Output = { data: add, note: add, dim: plain, red: plain, bold: plain, isTerminal: terminal };
      try {
        const code = await collectOrphans({ yes, max }, provider, config, output, async (question) => {
          questions.push(question);
          return answer;
        });
        return { code, said, error: undefined, questions };
      } catch (error) {
        if (!(error instanceof ModalSbError)) throw error;
        return { code: error.exitCode, said, error, questions };
      }
    },
    [Symbol.asyncDispose]: () => undo.disposeAsync(),
  };
}

const inAnHour = () => new Date(Date.now() + 3_600_000).toISOString();
const anHourAgo = () => new Date(Date.now() - 3_600_000).toISOString();

test("an orphan is listed with the reason and removed; then there is nothing", async () => {
  await using place = await scene();
  const lost = await place.sandbox("lost");
  const { provider } = leftBehind(place.local);
  const { code, said } = await place.gc(provider, { yes: true });
  assert.equal(code, 0);
  assert.match(said, new RegExp(`REMOVE +lost +agent .*${lost.id} +no process has its session any more`));
  assert.match(said, new RegExp(`removed agent ${lost.id} of lost`));
  assert.equal(lost.status(), "ended");
  assert.match((await place.gc(provider, { yes: true })).said, /Nothing to remove: no sandbox is running/);
});

test("a session that a living process has is kept, also when its record names no process", async () => {
  await using place = await scene();
  const used = await place.sandbox("used");
  await using _lock = await place.local.volume("used-data");
  const { code, said } = await place.gc(leftBehind(place.local).provider, { yes: true });
  assert.deepEqual([code, used.status()], [0, "running"]);
  assert.match(said, new RegExp(`keep +used .*in use by process ${process.pid}`));
});

test("a session that was left on purpose is kept until its time is over; one that was not among those goes", async () => {
  await using place = await scene();
  const left = await place.sandbox("left");
  const late = await place.sandbox("late");
  const stray = await place.sandbox("left", "proxy");
  const write = (name: string, until: string, sandboxes: string[]) =>
    writeDetached(place.stateFolder, name, { until, since: anHourAgo(), sandboxes });
  write("left", inAnHour(), [left.id]);
  write("late", anHourAgo(), [late.id]);
  const { provider } = leftBehind(place.local);
  const { code, said } = await place.gc(provider, { yes: true });
  assert.equal(code, 0);
  assert.deepEqual([left.status(), late.status(), stray.status()], ["running", "ended", "ended"]);
  assert.match(said, /left running on purpose until/);
  assert.match(said, new RegExp(`${late.id} +it was left until`));
  assert.match(said, new RegExp(`${stray.id} +it is not one that was left`));
  assert.ok(readDetached(place.stateFolder, "left"));
  assert.equal(readDetached(place.stateFolder, "late"), undefined);
});

test("what cannot be proven to be an orphan is kept", async () => {
  await using place = await scene();
  const sessionless = await place.sandbox(undefined);
  const oddName = await place.sandbox("../../etc");
  const damaged = await place.sandbox("damaged");
  await writeFile(join(place.stateFolder, "sessions/damaged.detached.json"), "{");
  const elsewhere = await place.sandbox("elsewhere");
  // a label that a provider has cut would lead to another session's lock
  const cut = await place.sandbox("a-long-na", "agent", "a-long-name-agent");
  const { provider } = leftBehind(place.local, (record) => {
    if (record.tags["session"] === "elsewhere") record.tags["host"] = "another-machine";
  });
  const { code, said } = await place.gc(provider, { yes: true });
  assert.equal(code, 0);
  for (const [sandbox, why] of [
    [sessionless, /keep +- .*not known which session/],
    [oddName, /keep .*etc.*not known which session/],
    [cut, /keep +a-long-na .*not known which session/],
    [damaged, /keep +damaged .*Cannot read .*damaged\.detached\.json/],
    [elsewhere, /keep +elsewhere .*it was made on another-machine/],
  ] as const) {
    assert.equal(sandbox.status(), "running");
    assert.match(said, why);
  }
});

test("a provider that does not answer: nothing is removed, exit code 3", async () => {
  await using place = await scene();
  const lost = await place.sandbox("lost");
  const { provider, breakWith } = leftBehind(place.local);
  breakWith(new Error("14 UNAVAILABLE: no connection"));
  const { code, error } = await place.gc(provider, { yes: true });
  assert.deepEqual([code, lost.status()], [3, "running"]);
  assert.match(error?.message ?? "", /does not say which sandboxes run: 14 UNAVAILABLE/);
});

test("more orphans than the cap: none goes, until the user raises it", async () => {
  await using place = await scene();
  const lost = [await place.sandbox("one"), await place.sandbox("two"), await place.sandbox("two", "proxy")];
  const { provider } = leftBehind(place.local);
  const refused = await place.gc(provider, { yes: true, max: 2 });
  assert.deepEqual([refused.code, lost.map((each) => each.status())], [2, ["running", "running", "running"]]);
  assert.match(refused.error?.hint ?? "", /modal-sb gc --max 3/);
  assert.equal((await place.gc(provider, { yes: true, max: 3 })).code, 0);
  assert.deepEqual(
    lost.map((each) => each.status()),
    ["ended", "ended", "ended"],
  );
});

test("without --yes it asks a person, and does nothing in a script", async () => {
  await using place = await scene();
  const lost = await place.sandbox("lost");
  const { provider } = leftBehind(place.local, (record: SandboxRecord) => {
    record.usdPerHour = 1.5;
  });
  const script = await place.gc(provider);
  assert.deepEqual([script.code, script.questions, lost.status()], [2, [], "running"]);
  assert.match(script.said, /REMOVE +lost/);
  assert.match(script.error?.hint ?? "", /--yes/);
  const no = await place.gc(provider, { terminal: true });
  assert.deepEqual([no.code, no.questions, lost.status()], [0, ["Remove 1 orphan, $1.50 an hour?"], "running"]);
  const yes = await place.gc(provider, { terminal: true, answer: true });
  assert.deepEqual([yes.code, lost.status()], [0, "ended"]);
});

test("a session cannot come back between the list and the removal: its lock is held meanwhile", async () => {
  await using place = await scene();
  const lost = await place.sandbox("lost");
  const { provider } = leftBehind(place.local);
  let tried: unknown;
  const open = provider.open.bind(provider);
  const watched = new Proxy(provider, {
    get: (target, name) => {
      if (name !== "open") return Reflect.get(target, name, target);
      return async (record: SandboxRecord) => {
        tried = await place.local.volume("lost-data").catch((error: unknown) => error);
        return await open(record);
      };
    },
  });
  assert.equal((await place.gc(watched, { yes: true })).code, 0);
  assert.equal((tried as ModalSbError).exitCode, 6);
  assert.equal(lost.status(), "ended");
  await (await place.local.volume("lost-data"))[Symbol.asyncDispose]();
});
