/** What a user gets wrong, or a machine lacks: a clear error, what to do, the documented exit code, and nothing left. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { type Ended, ended, User } from "../helpers/cli.ts";
import { processes, untilNone } from "../helpers/processes.ts";

const binPath = join(import.meta.dirname, "../../bin/modal-sb.js");
const isRoot = process.getuid?.() === 0;

function assertFailure(outcome: Ended, code: number, ...words: RegExp[]): void {
  assert.equal(outcome.code, code, outcome.stderr);
  assert.equal(outcome.stdout, "");
  for (const word of words) assert.match(outcome.stderr, word);
  assert.doesNotMatch(outcome.stderr, /\n\s+at /, "no stack without --verbose");
}

/** Processes that belong to this user's sessions. */
const leftOf = (user: User) => async () =>
  (await processes()).filter(
    ({ command, environment, pid }) =>
      pid !== process.pid &&
      (command.includes(user.home) || environment.some((entry) => entry.includes(user.api.origin))),
  );

/** Until the model's answer with the word is in claude's transcript; what claude has in its queue stands there before. */
async function untilTranscribed(user: User, word: string): Promise<void> {
  const isAnswer = (line: string) => line.includes('"role":"assistant"') && line.includes(word);
  const volumes = join(user.stateFolder, "volumes");
  for (;;) {
    const names = await readdir(volumes, { recursive: true }).catch(() => []);
    const transcripts = names
      .filter((name) => name.endsWith(".jsonl"))
      .map((name) => readFile(join(volumes, name), "utf8").catch(() => ""));
    if ((await Promise.all(transcripts)).some((text) => text.split("\n").some(isAnswer))) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

for (const name of [
  "websearch",
  "*",
  "field:",
  "field:thread",
  "field: speed",
  "beta:message-threads-2026-08-12",
  "beta:message-threads*",
]) {
  test(`a name in anthropicAllow that allows nothing is an error: ${name}`, async () => {
    await using user = await User.create();
    const outcome = await user.run(["-p", "hi"], { env: { MODAL_SB_ANTHROPIC_ALLOW: name } });
    assert.equal(outcome.code, 2, outcome.stderr);
    assert.ok(outcome.stderr.includes(`"anthropicAllow" has "${name}", which allows nothing`), outcome.stderr);
    assert.equal(user.api.requests.length, 0);
  });
}

test("an unknown flag is refused, with the nearest known one", async () => {
  await using user = await User.create();
  assertFailure(await user.run(["--alow-host", "x"]), 2, /unknown option '--alow-host'/, /--allow-host/);
  assertFailure(await user.run(["--output", "xml"]), 2, /text, stream-json/);
  assertFailure(await user.run(["docter"]), 2);
});

test("no key: three ways to give one, and the demo", async () => {
  await using user = await User.create();
  const outcome = await user.run(["-p", "hi"], { env: { ANTHROPIC_API_KEY: undefined } });
  assertFailure(outcome, 2, /No Anthropic API key/, /ANTHROPIC_API_KEY=/, /--key-file/, /keyFile/, /modal-sb demo/);
});

test("a key file that is missing, or holds no key", async () => {
  await using user = await User.create();
  assertFailure(await user.run(["-p", "hi", "--key-file", "/nonexistent"]), 2, /Cannot read the file of --key-file/);
  const path = join(user.home, "two");
  await writeFile(path, "one line\nanother");
  assertFailure(await user.run(["-p", "hi", "--key-file", path]), 2, /does not hold one credential/);
});

test("broken configuration names the file, the key and the reason", async () => {
  await using user = await User.create();
  const path = join(user.home, "project/modal-sb.json");
  const cases: [content: string, words: RegExp][] = [
    ["{", /Cannot read .*modal-sb\.json: .*JSON/],
    ["[]", /modal-sb\.json must hold one JSON object/],
    ['{"maxTurn": 5}', /Unknown key "maxTurn" in .*modal-sb\.json[\s\S]*maxTurns/],
    ['{"maxTurns": "many"}', /Bad value for "maxTurns" in .*modal-sb\.json/],
    ['{"egress": {"allow": ["http://x"]}}', /Bad value for "egress".*hostname/],
    ['{"anthropicOrigin": "https://evil.example"}', /"anthropicOrigin" cannot be set in .*send your key elsewhere/],
    ['{"egress": "dangerously-allow-all-hostnames"}', /"egress" cannot be/],
  ];
  for (const [content, words] of cases) {
    await writeFile(path, content);
    assertFailure(await user.run(["-p", "hi"]), 2, words);
  }
});

test("bad variables and flags name themselves", async () => {
  await using user = await User.create();
  assertFailure(await user.run(["-p", "hi"], { env: { MODAL_SB_MAX_TURN: "5" } }), 2, /MODAL_SB_MAX_TURN\b/);
  assertFailure(await user.run(["-p", "hi"], { env: { MODAL_SB_MEMORY_MIB: "lots" } }), 2, /MODAL_SB_MEMORY_MIB/);
  assertFailure(await user.run(["-p", "hi", "--max-turns", "0"]), 2, /--max-turns/);
  assertFailure(await user.run(["-p", "hi", "--session", "../x"]), 2, /Bad session name "\.\.\/x"/);
  assertFailure(await user.run(["-p", " "]), 2, /The message is empty/);
  assertFailure(await user.run(["-p", "hi", "--instructions", "/nonexistent"]), 2, /not a folder/);
  assertFailure(await user.run(["-p", "hi", "--anthropic-origin", "http://api.example"]), 2, /must be https/);
});

test("a key that the API refuses", async () => {
  await using user = await User.create();
  const outcome = await user.run(["-p", "hi"], { env: { ANTHROPIC_API_KEY: "sk-ant-wrong-000000000000" } });
  assertFailure(outcome, 5, /Invalid API key/, /refused the key/);
  assert.ok(user.api.requests.length <= 2, "a wrong key is not tried for minutes");
});

test("an API that is down", async () => {
  await using user = await User.create();
  await user.api[Symbol.asyncDispose]();
  assertFailure(
    await user.run(["-p", "hi"]),
    5,
    /127\.0\.0\.1 cannot be reached/,
    /the API cannot be reached: check your network/,
  );
});

test("an error of the API: exit code 5, and of the agent's steps: 4", async () => {
  await using user = await User.create();
  assertFailure(await user.run(["-p", "!error 529"]), 5);
  const steps = await user.run(["-p", "!bash true", "--max-turns", "1"]);
  assert.equal(steps.code, 4, steps.stderr);
  assert.match(steps.stderr, /too many steps/);
});

test("a session that another process uses", async () => {
  await using user = await User.create();
  const first = user.start(["--session", "one", "--output", "stream-json"]);
  await new Promise((resolve) => first.stdout?.once("data", resolve));
  assertFailure(await user.run(["-p", "hi", "--session", "one"]), 6, /process \d+|is (used|held|open)/i);
  first.stdin?.end();
  assert.equal((await ended(first)).code, 0);
});

test("a state folder that cannot be written", async () => {
  await using user = await User.create();
  await writeFile(join(user.home, "file"), "");
  for (const folder of ["/sys/nothing", join(user.home, "file")]) {
    const outcome = await user.run(["-p", "hi"], { env: { XDG_STATE_HOME: folder } });
    assertFailure(outcome, 3, new RegExp(`Cannot write to "${folder}/modal-sb`), /XDG_STATE_HOME/);
  }
});

test("a credential in the instructions stops the session, in each of its forms, and is not repeated", async () => {
  await using user = await User.create();
  const token = "hf_abcdefghijklmnopqrstuvwxyz012345+/";
  const bytes = Buffer.from(token);
  const forms = {
    plain: token,
    base64: Buffer.from(`user:${token}`).toString("base64"),
    base64url: bytes.toString("base64url"),
    hex: bytes.toString("hex"),
    url: encodeURIComponent(token),
  };
  const folder = join(user.home, "instructions");
  await mkdir(folder);
  for (const [name, form] of Object.entries(forms)) {
    await writeFile(join(folder, "CLAUDE.md"), `The token is ${form}.`);
    const outcome = await user.run(["-p", "hi", "--instructions", folder], { env: { HF_TOKEN: token } });
    assertFailure(outcome, 7, /HF_TOKEN would be visible to the agent in \/app\/\.claude\/CLAUDE\.md/);
    assert.ok(!outcome.stderr.includes(form), name);
    assert.equal(spawnSync("grep", ["-rlF", form, user.stateFolder]).stdout.toString(), "", name);
  }
  assert.equal(user.api.requests.length, 0);
});

test("a credential of a file in the home folder stops the session when a volume holds it", async () => {
  await using user = await User.create();
  const token = "hf_0123456789abcdefghijklmnop";
  assert.equal((await user.run(["-p", `!bash echo ${token} > /data/leaked`, "--session", "leak"])).code, 0);
  await mkdir(join(user.home, ".cache/huggingface"), { recursive: true });
  await writeFile(join(user.home, ".cache/huggingface/token"), token);
  const outcome = await user.run(["-p", "hi", "--session", "leak"]);
  assertFailure(outcome, 7, /~\/\.cache\/huggingface\/token would be visible .* in \/data\//);
});

test("missing bubblewrap: the command that installs it", async (context) => {
  if (!isRoot) return context.skip("only root can hide /usr/bin/bwrap from one process");
  await using user = await User.create();
  const hide = 'mount --bind /dev/null /usr/bin/bwrap && exec "$@"';
  const child = spawn("unshare", ["--mount", "sh", "-c", hide, "sh", process.execPath, binPath, "-p", "hi"], {
    env: user.environment(),
    cwd: user.home,
    stdio: ["ignore", "pipe", "pipe"],
  });
  assertFailure(await ended(child), 3, /bwrap|bubblewrap/, /apt-get install -y bubblewrap/);
});

test("forbidden namespaces: doctor and the session say exactly what", async (context) => {
  if (!isRoot) return context.skip("only root can forbid namespaces to one process");
  await using user = await User.create();
  // a user namespace of its own, in which no further one may be made
  const forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"';
  const run = (...argv: string[]) =>
    ended(
      spawn(
        "unshare",
        ["--user", "--map-root-user", "--mount", "sh", "-c", forbid, "sh", process.execPath, binPath, ...argv],
        {
          env: user.environment(),
          cwd: user.home,
          stdio: ["ignore", "pipe", "pipe"],
        },
      ),
    );
  const doctor = await run("doctor");
  assert.equal(doctor.code, 3);
  assert.match(doctor.stdout, /MISSING\s+user namespaces: forbidden on this machine/);
  assert.match(doctor.stdout, /to do: .*max_user_namespaces|to do: /);
  const session = await run("-p", "hi");
  assert.equal(session.code, 3, session.stderr);
  assert.match(session.stderr, /did not start|namespace/i);
});

for (const [signal, code] of [
  ["SIGTERM", 143],
  ["SIGHUP", 129],
  ["SIGINT", 130],
] as const) {
  test(`${signal} in mid-turn: exit code ${code}, and nothing is left running`, async () => {
    await using user = await User.create();
    const child = user.start(["-p", "!hang", "--session", "ended"]);
    child.stdin?.end();
    await user.api.waitForRequest(() => true);
    child.kill(signal);
    assert.equal((await ended(child)).code, code);
    assert.deepEqual(await untilNone(leftOf(user)), []);
    const again = await user.run(["-p", "hello", "--session", "ended"]);
    assert.match(again.stdout, /You said: hello/);
  });
}

test("kill -9 of the command line in mid-turn leaves nothing running, and the conversation", async () => {
  await using user = await User.create();
  const child = user.start(["-p", "!bash echo kumquat; tail -f /dev/null", "--session", "killed"]);
  child.stdin?.end();
  await untilTranscribed(user, "kumquat");
  child.kill("SIGKILL");
  assert.equal((await ended(child)).code, null);
  assert.deepEqual(await untilNone(leftOf(user)), []);
  const again = await user.run(["-p", "hello", "--session", "killed"]);
  assert.equal(again.code, 0, again.stderr);
  assert.match(JSON.stringify(user.api.requests.at(-1)?.body), /kumquat/);
});

test("kill -9 at any moment of the start leaves nothing running", async () => {
  await using user = await User.create();
  for (let delay = 0; delay <= 600; delay += 60) {
    const child = user.start(["-p", "!hang"]);
    child.stdin?.end();
    await new Promise((resolve) => setTimeout(resolve, delay));
    child.kill("SIGKILL");
    await ended(child);
  }
  assert.deepEqual(await untilNone(leftOf(user)), []);
  // what the dead left in files is swept by the next
  assert.equal((await user.run(["-p", "hello"])).code, 0);
  assert.deepEqual(readdirSync(join(user.stateFolder, "scratch")), []);
});

const tooLong = {
  plain: "x".repeat(8_400_000),
  "control characters": "\u0001".repeat(1_400_000),
  "words behind blanks": `${" ".repeat(8_400_000)}words`,
};

for (const [name, message] of Object.entries(tooLong)) {
  test(`a message that is too long (${name}) is refused before anything is made`, async () => {
    await using user = await User.create();
    for (const argv of [["-p"], ["-p", "--detach", "--session", "big"]]) {
      const outcome = await user.run(argv, { input: message });
      assertFailure(
        outcome,
        2,
        /^error: The message is too long: .* more than 8388608 bytes$/m,
        /^hint: put the text/m,
      );
    }
    assert.deepEqual(await readdir(join(user.stateFolder, "sessions")).catch(() => []), []);
    assert.deepEqual(await readdir(join(user.stateFolder, "volumes")).catch(() => []), []);
  });

  test(`a line that is too long (${name}) ends its turn with an error, and the conversation goes on`, async () => {
    await using user = await User.create();
    const { code, stdout, stderr } = await user.run([], { input: `hello\n${message}\nagain\n` });
    assert.equal(code, 2, stderr);
    assert.match(stderr, /^The turn failed: The message is too long: .* bytes\nhint: put the text in a file/m);
    assert.equal(stdout, "turn 1: You said: hello\nEND_TURN\nEND_TURN\nturn 2: You said: again\nEND_TURN\n");
  });
}

test("a first line that is too long is reported too, and as an event in JSON", async () => {
  await using user = await User.create();
  const first = await user.run([], { input: `${tooLong.plain}\n` });
  assert.deepEqual([first.code, first.stdout], [2, "END_TURN\n"]);
  assert.match(first.stderr, /^The turn failed: The message is too long/m);
  const { code, stdout } = await user.run(["--output", "stream-json"], { input: `${tooLong.plain}\nhello\n` });
  assert.equal(code, 2);
  const ends = stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line))
    .filter(({ type }) => type === "END_TURN");
  assert.deepEqual(
    ends.map(({ result, error }) => [result, error?.reason]),
    [
      ["error", "message_too_long"],
      ["success", undefined],
    ],
  );
});
