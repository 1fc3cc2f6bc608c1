/** Many sessions of one user at once, each a command of its own: none gets another's words, and none costs much here. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { assertNothingRuns, type ModalSession, modalSession, runningOf } from "../../helpers/modal-session.ts";
import { canEmulate, modalUser } from "../../helpers/modal-user.ts";
import { processes } from "../../helpers/processes.ts";

const count = Number(process.env["MANY_SESSIONS"] ?? 20);
/** how many start beside each other; all stay open */
const starting = 3;
const mostMiB = 400;

test("many sessions at once: all answer with their own words, and end without a rest", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser();
  await using undo = new AsyncDisposableStack();
  const names = Array.from({ length: count }, (_, index) => `many-${index + 1}`);
  const sessions = new Map<string, ModalSession>();
  const waiting = [...names];
  const open = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      const gpu = names.indexOf(name) % 4 === 3 ? ["--gpu", "A10"] : [];
      const session = undo.use(modalSession(modal, [...gpu, "-s", name]));
      sessions.set(name, session);
      const said = await session.turn(
        `!bash echo "${name}" > /data/mine; echo "$(cat /data/mine) $(ls /data/mine | wc -l)"`,
      );
      assert.equal(said, `${name} 1\n`);
    }
  };
  await Promise.all(Array.from({ length: starting }, open));

  const running = runningOf(modal);
  assert.equal(running.length, 2 * count);
  assert.equal(new Set(running.map(({ name }) => name)).size, 2 * count);
  const pids = new Set([...sessions.values()].map(({ child }) => child.pid));
  const commands = (await processes()).filter(({ pid }) => pids.has(pid));
  assert.equal(commands.length, count, "all are open at the same time");
  for (const { residentMiB, command } of commands) assert.ok(residentMiB < mostMiB, `${residentMiB} MiB: ${command}`);

  const answers = await Promise.all(
    [...sessions].map(async ([name, session]) => [name, await session.turn(`I am ${name}`)] as const),
  );
  for (const [name, answer] of answers) assert.equal(answer, `turn 2: You said: I am ${name}\n`);
  const codes = await Promise.all([...sessions.values()].map((session) => session.leave()));
  assert.deepEqual(codes, new Array<number>(count).fill(0));
  for (const [name, { talk }] of sessions) {
    const others = names.filter((other) => other !== name);
    for (const other of others) assert.doesNotMatch(`${talk.stdout()}${talk.stderr()}`, new RegExp(`\\b${other}\\b`));
  }
  assertNothingRuns(modal);
  const hellos = modal.emulator.calls.filter(({ method }) => method.startsWith("SandboxCreate"));
  assert.equal(hellos.length, 2 * count, "none was made twice");
});
