/** `modal-sb init`, and what the real claude makes of a project's own `.claude/`. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, globSync, readFileSync } from "node:fs";
import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { type Ended, ended, User } from "../helpers/cli.ts";
import { Terminal } from "../helpers/terminal.ts";

const root = join(import.meta.dirname, "../..");
const binPath = join(root, "bin/modal-sb.js");
const isRoot = process.getuid?.() === 0;

const projectOf = (user: User) => join(user.home, "project");

/** What the last request told the model. */
const told = (user: User) => JSON.stringify(user.api.requests.at(-1)?.body);

const modelOf = (user: User) => (user.api.requests.at(-1)?.body as { model: string } | undefined)?.model;

async function write(folder: string, files: Record<string, string>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(join(folder, path, ".."), { recursive: true });
    await writeFile(join(folder, path), text);
  }
}

/** Every file below a folder, with what it holds. */
function contentOf(folder: string): Record<string, string> {
  const names = globSync("**/*", { cwd: folder, withFileTypes: true, exclude: ["**/__pycache__"] })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
  return Object.fromEntries(names.sort().map((name) => [name, readFileSync(join(folder, name), "utf8")]));
}

function assertRefused({ code, stderr }: Ended, words: RegExp): void {
  assert.equal(code, 2, stderr);
  assert.match(stderr, words);
  assert.doesNotMatch(stderr, /\n\s+at /);
}

test("init: the project's copy is the template, and the next session speaks of its own sandbox with it", async () => {
  await using user = await User.create();
  const project = projectOf(user);
  const { code, stdout, stderr } = await user.run(["init"]);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^made \.claude\/CLAUDE\.md\n(made .*\n)+made modal-sb\.json\n$/);
  assert.match(stderr, /Next:\n {2}edit \.claude\/CLAUDE\.md.*\n {2}modal-sb --metrics/);
  assert.deepEqual(contentOf(join(project, ".claude")), contentOf(join(root, "instructions")));
  const path = join(project, ".claude/CLAUDE.md");
  await writeFile(path, `${await readFile(path, "utf8")}\nMemory again: {{memory}}, quince.\n`);
  const session = await user.run(["-p", "hello"], { env: { MODAL_SB_MEMORY_MIB: "3072" } });
  assert.deepEqual([session.code, session.stdout], [0, "turn 1: You said: hello\n"]);
  assert.doesNotMatch(session.stderr, /note:|warning:/);
  assert.match(told(user), /Memory again: 3 GiB, quince\./);
  assert.match(told(user), /training-run: /);
  assert.doesNotMatch(told(user), /Hugging Face cannot be reached/);
});

test("init code, init empty, and a folder that is not there yet", async () => {
  await using user = await User.create();
  for (const template of ["code", "empty"]) {
    const { code, stderr } = await user.run(["init", `new/${template}`, "--template", template]);
    assert.equal(code, 0, stderr);
    assert.match(stderr, new RegExp(`cd new/${template} && modal-sb`));
    const project = join(projectOf(user), "new", template);
    assert.deepEqual(contentOf(join(project, ".claude")), contentOf(join(root, "templates", template)));
    assert.deepEqual(JSON.parse(await readFile(join(project, "modal-sb.json"), "utf8")), { instructions: ".claude" });
    const session = await user.run(["-p", "hello"], { cwd: project });
    assert.equal(session.code, 0, session.stderr);
    assert.match(told(user), /There is no GPU/);
    assert.equal(/Never push/.test(told(user)), template === "code");
    assert.doesNotMatch(told(user), /training-run/);
  }
  assertRefused(await user.run(["init", "--template", "tutorial"]), /ml, code, empty/);
});

test("init replaces nothing unasked: files that differ are named and kept, --force replaces them", async () => {
  await using user = await User.create();
  const project = projectOf(user);
  const own = { ".claude/CLAUDE.md": "# mine\n", ".claude/agents/mine.md": "x", ".claude/settings.json": "{}" };
  await write(project, { ...own, "modal-sb.json": '{"maxTurns": 7}\n' });
  const first = await user.run(["init"]);
  assert.equal(first.code, 0, first.stderr);
  assert.match(first.stderr, /differs from the template: \.claude\/CLAUDE\.md\n[\s\S]*--force replaces it/);
  assert.match(first.stderr, /modal-sb\.json was not changed; put "instructions": "\.claude", "egress": "ml" into it/);
  assert.match(first.stdout, /^kept \.claude\/CLAUDE\.md\nmade \.claude\/scripts[\s\S]*kept modal-sb\.json\n$/);
  for (const [path, text] of Object.entries(own)) assert.equal(await readFile(join(project, path), "utf8"), text);
  const forced = await user.run(["init", "--force"]);
  assert.match(forced.stdout, /^replaced \.claude\/CLAUDE\.md\nsame \.claude\/scripts/);
  assert.deepEqual(contentOf(join(project, ".claude")), {
    ...contentOf(join(root, "instructions")),
    "agents/mine.md": "x",
    "settings.json": "{}",
  });
  assert.equal(await readFile(join(project, "modal-sb.json"), "utf8"), '{"maxTurns": 7}\n');
  await write(project, { "modal-sb.json": '{"instructions": "./.claude/", "egress": "none"}' });
  assert.doesNotMatch((await user.run(["init"])).stderr, /was not changed|differs/);
  await write(project, { "modal-sb.json": '{"instructions": "other"' });
  assert.match((await user.run(["init"])).stderr, /modal-sb\.json cannot be read \(.*; it needs "instructions"/);
  assert.deepEqual(globSync("**/*.tmp", { cwd: join(project, ".claude") }), []);
});

test("init at a terminal asks, and takes no answer but yes for one", async () => {
  await using user = await User.create();
  const path = join(projectOf(user), ".claude/CLAUDE.md");
  await write(projectOf(user), { ".claude/CLAUDE.md": "# mine\n" });
  for (const [answer, isReplaced] of [
    ["\r", false],
    ["y\r", true],
  ] as const) {
    const terminal = new Terminal(user, "init", "project", "--template", "empty");
    await terminal.sees(/Replace it with the template's\? \[y\/N\] /);
    terminal.type(answer);
    assert.equal(await terminal.exited, 0);
    assert.equal((await readFile(path, "utf8")) !== "# mine\n", isReplaced);
  }
});

test("init writes nothing where it must not: the home folder, links, another kind of file, what is closed", async () => {
  await using user = await User.create();
  const project = projectOf(user);
  await mkdir(join(user.home, "elsewhere"));
  await symlink(join(user.home, "elsewhere"), join(project, ".claude"));
  assertRefused(await user.run(["init"]), /\.claude is no folder of its own/);
  assertRefused(await user.run(["init", "--force", user.home]), /Claude Code's own, with your login/);
  await symlink(user.home, join(project, "home"));
  assertRefused(await user.run(["init", "home"]), /Claude Code's own/);
  await mkdir(join(project, "linked/.claude"), { recursive: true });
  await symlink(join(user.home, "elsewhere"), join(project, "linked/.claude/skills"));
  assertRefused(await user.run(["init", "--force", "linked"]), /another kind of file at .*linked\/\.claude\/skills/);
  await mkdir(join(project, "folder/.claude/CLAUDE.md"), { recursive: true });
  assertRefused(await user.run(["init", "--force", "folder"]), /another kind of file at .*CLAUDE\.md/);
  await writeFile(join(project, "file"), "");
  assertRefused(await user.run(["init", "file"]), /Cannot write to .*file/);
  assertRefused(await user.run(["init", "/proc/nothing"]), /Cannot write to \/proc\/nothing/);
  assert.deepEqual(await readdir(join(user.home, "elsewhere")), []);
  assert.deepEqual(await readdir(join(project, "linked/.claude")), ["skills"]);
});

test("init replaces a link to a file, and not what it leads to", async () => {
  await using user = await User.create();
  const project = projectOf(user);
  await write(user.home, { "precious.md": "precious" });
  await mkdir(join(project, ".claude"));
  await symlink(join(user.home, "precious.md"), join(project, ".claude/CLAUDE.md"));
  assert.equal((await user.run(["init", "--force", "--template", "empty"])).code, 0);
  assert.equal(await readFile(join(user.home, "precious.md"), "utf8"), "precious");
  assert.match(await readFile(join(project, ".claude/CLAUDE.md"), "utf8"), /^# Your machine/);
});

test("a .claude/ that nobody named is not used, and a note says how to; not for one that only remembers permissions", async () => {
  await using user = await User.create();
  const project = projectOf(user);
  await write(project, { ".claude/settings.local.json": "{}" });
  assert.doesNotMatch((await user.run(["-p", "hello"])).stderr, /note:/);
  await write(project, { ".claude/CLAUDE.md": "# quince\n" });
  const unused = await user.run(["-p", "hello"]);
  assert.deepEqual([unused.code, unused.stdout], [0, "turn 1: You said: hello\n"]);
  assert.equal(unused.stderr.match(/note: the \.claude\/ of this folder is not used/g)?.length, 1);
  assert.match(unused.stderr, /hint: --instructions \.claude .*"instructions": "\.claude" in modal-sb\.json/);
  assert.doesNotMatch(told(user), /# quince/);
  // the default policy has no Hugging Face, and the agent knows it from the start
  assert.match(told(user), /Hugging Face cannot be reached\.[^"]*--egress ml/);
  const used = await user.run(["-p", "hello", "--instructions", ".claude"]);
  assert.doesNotMatch(used.stderr, /note:|warning:/);
  assert.match(told(user), /# quince/);
});

test("instructions with faults: a warning for each, an error for a placeholder that nobody knows", async () => {
  await using user = await User.create();
  const project = projectOf(user);
  await write(project, {
    "modal-sb.json": '{"instructions": ".claude"}',
    ".claude/skills/broken/SKILL.md": "no front matter",
    ".claude/skills/lower/skill.md": "",
  });
  const warned = await user.run(["-p", "hello"]);
  assert.equal(warned.code, 0);
  assert.match(warned.stderr, /warning: in the instructions, skills\/broken does not begin with the line "---"/);
  assert.match(warned.stderr, /warning: in the instructions, skills\/lower has no SKILL\.md: claude will not see it/);
  await write(project, { ".claude/CLAUDE.md": "{{gpuName}}" });
  const failed = await user.run(["-p", "hello"]);
  assertRefused(
    failed,
    /Unknown placeholder \{\{gpuName\}\} in .*project\/\.claude\/CLAUDE\.md\n\nhint: the names are gpu, cores/,
  );
});

test("a credential that a placeholder could not hide stops the session as before", async () => {
  await using user = await User.create();
  await write(projectOf(user), { "own/CLAUDE.md": "{{memory}} and hf_abcdefghijklmnopqrstuvwxyz" });
  const env = { HF_TOKEN: "hf_abcdefghijklmnopqrstuvwxyz" };
  const { code, stderr } = await user.run(["-p", "hello", "--instructions", "own"], { env });
  assert.equal(code, 7, stderr);
  assert.match(stderr, /HF_TOKEN would be visible to the agent in \/app\/\.claude\/CLAUDE\.md/);
});

test("a stranger's project cannot name folders of the user's as instructions, also not by a link", async () => {
  await using user = await User.create();
  const project = projectOf(user);
  await write(user.home, { ".ssh/id_ed25519": "private", "other/CLAUDE.md": "# Other\n" });
  await symlink("../.ssh", join(project, ".claude"));
  for (const folder of ["~/.ssh", "../other", join(user.home, "other"), ".claude", ".", "..", "/"]) {
    await write(project, { "modal-sb.json": JSON.stringify({ instructions: folder }) });
    assertRefused(await user.run(["-p", "hello"]), /of .*modal-sb\.json are not below the project/);
  }
  assert.ok(!existsSync(join(user.stateFolder, "cache/home")), "nothing was copied");
  assert.equal(user.api.requests.length, 0);
  await user.run(["-p", "hello", "--instructions", "../other"]);
  assert.match(told(user), /# Other/);
});

/** A project of somebody who uses Claude Code. */
const claudeCodeProject = {
  "modal-sb.json": '{"instructions": ".claude"}',
  ".claude/CLAUDE.md": "# Marked home\n",
  ".claude/rules/style.md": "Marked rule\n",
  ".claude/agents/reviewer.md": "---\nname: reviewer\ndescription: Marked agent\n---\nYou review.\n",
  ".claude/commands/greet.md": "---\ndescription: Marked command\n---\nMarked body for $ARGUMENTS\n",
  ".claude/skills/mine/SKILL.md": "---\nname: mine\ndescription: Marked skill\n---\n\nMarked steps\n",
  ".claude/settings.local.json": JSON.stringify({
    env: { MARKED_LOCAL: "from-local" },
    permissions: { deny: ["Bash(echo:*)"] },
  }),
  ".claude/settings.json": JSON.stringify({
    env: { MARKED_SHARED: "from-shared" },
    model: "claude-marked-model",
    permissions: { allow: ["Bash(ls)"], deny: ["Bash(rm:*)"] },
    hooks: Object.fromEntries(
      ["SessionStart", "UserPromptSubmit", "PreToolUse", "Stop"].map((event) => [
        event,
        [{ hooks: [{ type: "command", command: `touch /data/hook-${event}` }] }],
      ]),
    ),
  }),
};

test("a project of Claude Code: what the real claude honours of it, and what not", async () => {
  await using user = await User.create();
  await write(projectOf(user), claudeCodeProject);
  const messages = [
    "/greet you",
    "/mine now",
    "!bash env | grep MARKED",
    "!bash echo allowed",
    "!bash rm -f /data/nothing",
    "!bash curl --version | head -1",
    "!bash ls -A /data /app/.claude | grep -ce hook -e local",
    "!bash touch /app/.claude/x 2>/dev/null || echo closed",
  ];
  const { code, stdout, stderr } = await user.run([], { input: messages.join("\n") });
  assert.equal(code, 0, stderr);
  for (const words of [/# Marked home/, /Marked rule/, /mine: Marked skill/, /greet: Marked command/]) {
    assert.match(told(user), words);
  }
  assert.doesNotMatch(told(user), /Marked agent/, "there is no tool for subagents");
  assert.equal(modelOf(user), "claude-marked-model");
  const [greeted, mine, variables, allowed, denied, unlisted, traces, touched] = stdout.split("END_TURN\n");
  assert.match(greeted ?? "", /You said: Marked body for you/);
  assert.match(mine ?? "", /Marked steps/);
  assert.equal(variables, "MARKED_SHARED=from-shared\n");
  assert.equal(allowed, "allowed\n", "the local settings deny it, and are left out");
  assert.match(denied ?? "", /Permission to use Bash .* has been denied/);
  assert.match(unlisted ?? "", /^curl/, "what is not in the list of what is allowed works");
  assert.equal(traces, "0\n", "no hook has run");
  assert.equal(touched, "closed\n");
  await user.run(["-p", "hello", "--model", "claude-chosen-model"]);
  assert.equal(modelOf(user), "claude-chosen-model");
});

test("what CLAUDE.md says of the sandbox is so: the key, a refusal, what goes on between turns, the folders, Python", async () => {
  await using user = await User.create();
  const messages = [
    '!bash curl -s -H "x-api-key: $MODAL_SB_SANDBOX_KEY" "$ANTHROPIC_BASE_URL/v1/models"',
    "!bash curl -sSi http://huggingface.co",
    "!bash setsid nohup sleep 1234 > /tmp/log 2>&1 &",
    "!bash until pgrep -x sleep; do true; done",
    "!bash command -v python3 pip; touch /data/kept /app/kept && pwd",
  ];
  const { code, stdout, stderr } = await user.run([], { input: messages.join("\n") });
  assert.equal(code, 0, stderr);
  const [models, refusal, , running, folders] = stdout.split("END_TURN\n");
  assert.match(models ?? "", /"type":"model"/);
  assert.match(refusal ?? "", /403[\s\S]*x-modal-sb-reason: hostname_not_allowed/);
  assert.match(running ?? "", /^\d+\n$/);
  assert.equal(folders, "/data/venv/bin/python3\n/data/venv/bin/pip\n/app\n");
});

test("without Python on the machine: one error, and the command that installs it", async (context) => {
  if (!isRoot) return context.skip("only root can hide the machine's programs from one process");
  await using user = await User.create();
  const found = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
    .map((folder) => join(folder, "python3"))
    .filter((path) => existsSync(path));
  const hide = `${found.map((path) => `mount --bind /dev/null ${path}`).join(" && ") || "true"} && exec "$@"`;
  const child = spawn("unshare", ["--mount", "sh", "-c", hide, "sh", process.execPath, binPath, "-p", "hi"], {
    env: user.environment({ PATH: "/usr/bin:/bin" }),
    cwd: projectOf(user),
    stdio: ["ignore", "pipe", "pipe"],
  });
  const { code, stdout, stderr } = await ended(child);
  assert.deepEqual([code, stdout], [3, ""], stderr);
  assert.match(stderr, /no python3 was found[\s\S]*apt-get install -y python3/);
});

test("the package brings the templates", () => {
  const listed = execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], {
    cwd: root,
    encoding: "utf8",
  });
  const [packed] = JSON.parse(listed) as [{ files: { path: string }[] }];
  const paths = packed.files.map(({ path }) => path);
  for (const path of ["instructions/CLAUDE.md", "templates/code/CLAUDE.md", "templates/empty/CLAUDE.md"]) {
    assert.ok(paths.includes(path), path);
  }
});
