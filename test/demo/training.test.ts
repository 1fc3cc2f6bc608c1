import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { toolUse } from "../../src/demo/script.ts";
import { startScriptedApi } from "../../src/demo/scripted-api.ts";
import { followUpPrompt, training, trainingPrompt } from "../../src/demo/scripts/training.ts";
import { trainingProgram } from "../../src/demo/scripts/training-program.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { isInstalled, newest, rowsOf } from "../syncer/runs.ts";
import { Claude, type Turn } from "./claude.ts";
import { assistant, requestOf, result, said, textOf, used, user } from "./requests.ts";

const out = { path: "/nonexistent/id_ed25519", url: "http://127.0.0.1:1/" };

/** The outputs of the turn's tools, in the order of their use. */
function outputsOf(turn: Turn): string[] {
  const blocks = turn.messages.flatMap((message) =>
    message.type === "assistant" || message.type === "user" ? [message.message.content].flat() : [],
  );
  return blocks.flatMap((block) => {
    if (typeof block === "string" || block.type !== "tool_use") return [];
    const answer = blocks.find(
      (other) => typeof other !== "string" && "tool_use_id" in other && other.tool_use_id === block.id,
    );
    return typeof answer === "object" && "content" in answer ? [String(answer.content)] : [];
  });
}

const path = process.env["PATH"];
const noIndex = { PIP_INDEX_URL: "http://127.0.0.1:1/simple", PIP_RETRIES: "0" };

/** Puts a Python of its own first on claude's path, made as the sandbox's is; `variables` stand for the sandbox's folders. */
async function useOwnPython(folder: string, variables: Readonly<Record<string, string>>): Promise<void> {
  const [venv, bin] = [join(folder, "venv"), join(folder, "bin")];
  await promisify(execFile)("python3", ["-m", "venv", "--without-pip", "--system-site-packages", venv]);
  await mkdir(bin);
  const exports = Object.entries(variables).map(([name, value]) => `export ${name}='${value}'\n`);
  const script = (words: string) => `#!/bin/sh\n${exports.join("")}exec '${venv}/bin/python3' ${words}"$@"\n`;
  await writeFile(join(bin, "python3"), script(""), { mode: 0o755 });
  await writeFile(join(bin, "pip"), script("-m pip "), { mode: 0o755 });
  process.env["PATH"] = `${bin}:${path}`;
}

test("the agent trains for real, logs every epoch, reports what came out, and remembers it in the next turn", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using own = await temporaryFolder();
  const scripts = join(import.meta.dirname, "../../instructions/scripts");
  await useOwnPython(own.path, {
    // what is here need not be downloaded again
    PYTHONPATH: `${scripts}:${join(homedir(), ".cache/modal-sb-test", `trackio-${newest}`)}`,
    MODAL_SB_DATA_FOLDER: own.path,
    MODAL_SB_TRACKIO_FOLDER: own.path,
    TRACKIO_DIR: join(own.path, "trackio"),
  });
  await using api = await startScriptedApi({ script: training() });
  await using claude = await Claude.start(api.origin, "sb-demo.key");
  const turn = await claude.say(trainingPrompt(out));
  const file = join(claude.folder, "train.py");
  assert.equal(await readFile(file, "utf8"), trainingProgram);

  const outputs = outputsOf(turn);
  const losses = [...(outputs.at(-1) ?? "").matchAll(/epoch \d+ loss (\d\.\d{4})/g)].map(([, loss]) => loss);
  assert.equal(losses.length, 40);
  assert.ok(Number(losses.at(-1)) < Number(losses[0]) / 2, `learns: ${losses}`);
  const [run = ""] = await readdir(join(own.path, "runs"));
  assert.equal(
    turn.text,
    `The training ran: its loss fell from ${losses[0]} in epoch 1 to ${losses.at(-1)} in epoch 40. ` +
      `Every epoch is logged with trackio, in project demo, run ${run}.`,
  );
  assert.deepEqual(await readdir(join(own.path, "runs", run, "checkpoint")), ["weights.json"]);
  const { metrics = [] } = rowsOf(join(own.path, "trackio/demo.db"));
  const rows = (metrics as { run_name: string; step: number; metrics: string }[]).toSorted((a, b) => a.step - b.step);
  assert.deepEqual(
    rows.map(({ run_name, step, metrics }) => [run_name, step, JSON.parse(metrics).loss.toFixed(4)]),
    losses.map((loss, index) => [run, index + 1, loss]),
  );
  const accuracies = rows.map(({ metrics }) => JSON.parse(metrics).accuracy);
  assert.ok(accuracies[0] < 0.5 && accuracies.at(-1) > 0.8, `is right more often: ${accuracies}`);

  assert.match(outputs.join("\n"), new RegExp(`^trackio ${newest}$`, "m"));
  assert.match(turn.streamed, /id_ed25519 is out of reach: cat: .*No such file/);
  assert.match(turn.streamed, /127\.0\.0\.1:1\/ is out of reach: .*Connection refused/);
  assert.match(turn.streamed, /sb-demo\.key is all I have/);

  const next = await claude.say(followUpPrompt);
  assert.equal(next.text, `The final loss was ${losses.at(-1)}, in epoch 40. The loop is in ${file}.`);
});

test("without a package index the agent trains all the same, and says that nothing was logged", async () => {
  await using own = await temporaryFolder();
  await useOwnPython(own.path, { ...noIndex, TRACKIO_DIR: join(own.path, "trackio") });
  await using api = await startScriptedApi({ script: training() });
  await using claude = await Claude.start(api.origin);
  const turn = await claude.say(trainingPrompt(out));
  assert.match(turn.streamed, /trackio could not be installed: ERROR: No matching distribution found for trackio/);
  assert.match(turn.text, /^The training ran: its loss fell from [\d.]+ in epoch 1 to [\d.]+ in epoch 40\. /);
  assert.match(turn.text, / No metrics were logged: No module named 'trackio'\.$/);
});

test("the agent says so when it can get out", async () => {
  await using own = await temporaryFolder();
  await useOwnPython(own.path, noIndex);
  await using api = await startScriptedApi({ script: training() });
  await using claude = await Claude.start(api.origin);
  const path = join(claude.folder, "readable");
  await writeFile(path, "content");
  const turn = await claude.say(trainingPrompt({ path, url: `${api.origin}/v1/models` }));
  assert.match(turn.streamed, /readable CAN BE REACHED, and must not be\./);
  assert.match(turn.streamed, /v1\/models CAN BE REACHED, and must not be\./);
});

/** A first turn in which the training printed `output`. */
const trained = (output: string) => [
  user(said(trainingPrompt(out))),
  assistant(used("a", "Write", { file_path: "/elsewhere/loop.py" })),
  user(result("a", "written")),
  assistant(used("b", "Bash", {})),
  user(result("b", "out\nepoch 1 loss 9.1\nepoch 2 loss 3.7\n")),
  assistant(said("trained")),
  user(said("again, a training please")),
  assistant(said("1")),
  assistant(said("2")),
  assistant(said("3")),
  assistant(said("4")),
  assistant(said("5")),
  assistant(used("c", "Bash", {})),
  user(result("c", output)),
];

test("the report takes its numbers from the tool's output, and says when there are none", async () => {
  assert.match(
    await textOf(training(), ...trained("epoch 1 loss 8\nepoch 4 loss 2.5\n")),
    /from 8 in epoch 1 to 2.5 in epoch 4. No metrics were logged: the program does not say why.$/,
  );
  assert.match(
    await textOf(training(), ...trained("epoch 1 loss 8\nepoch 4 loss 2.5\nmetrics: project demo, run demo-1\n")),
    /to 2.5 in epoch 4. Every epoch is logged with trackio, in project demo, run demo-1.$/,
  );
  assert.equal(await textOf(training(), ...trained("python3: not found")), "The training failed: python3: not found");
});

test("the follow-up is answered from the last training that printed a loss", async () => {
  const conversation = [...trained("python3: not found"), assistant(said("failed")), user(said(followUpPrompt))];
  assert.equal(
    await textOf(training(), ...conversation),
    "The final loss was 3.7, in epoch 2. The loop is in /elsewhere/loop.py.",
  );
  assert.match(await textOf(training(), user(said(followUpPrompt))), /not trained anything/);
});

test("a path with a quote is one word of the shell", async () => {
  const asked = user(said(trainingPrompt({ ...out, path: "/it's/$HOME" })));
  const reply = await training()(requestOf(asked, assistant(said("looked"))));
  assert.deepEqual([reply].flat()[1], toolUse("Bash", { command: "cat '/it'\\''s/$HOME'" }));
});

test("other questions are not answered with a training", async () => {
  assert.match(await textOf(training(), user(said("hello"))), /I am a scripted model/);
});
