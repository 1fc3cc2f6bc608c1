import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { toolUse } from "../../src/demo/script.ts";
import { startScriptedApi } from "../../src/demo/scripted-api.ts";
import { followUpPrompt, training, trainingPrompt } from "../../src/demo/scripts/training.ts";
import { trainingProgram } from "../../src/demo/scripts/training-program.ts";
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

test("the agent trains for real, reports what came out, and remembers it in the next turn", async () => {
  await using api = await startScriptedApi({ script: training() });
  await using claude = await Claude.start(api.origin, "sb-demo.key");
  const turn = await claude.say(trainingPrompt(out));
  const file = join(claude.folder, "train.py");
  assert.equal(await readFile(file, "utf8"), trainingProgram);

  const losses = [...(outputsOf(turn).at(-1) ?? "").matchAll(/epoch \d+ loss (\d\.\d{4})/g)].map(([, loss]) => loss);
  assert.equal(losses.length, 10);
  assert.ok(Number(losses.at(-1)) < Number(losses[0]) / 2, `learns: ${losses}`);
  assert.equal(
    turn.text,
    `The training ran: its loss fell from ${losses[0]} in epoch 1 to ${losses.at(-1)} in epoch 10.`,
  );

  assert.match(turn.streamed, /id_ed25519 is out of reach: cat: .*No such file/);
  assert.match(turn.streamed, /127\.0\.0\.1:1\/ is out of reach: .*Connection refused/);
  assert.match(turn.streamed, /sb-demo\.key is all I have/);

  const next = await claude.say(followUpPrompt);
  assert.equal(next.text, `The final loss was ${losses.at(-1)}, in epoch 10. The loop is in ${file}.`);
});

test("the agent says so when it can get out", async () => {
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
  assistant(used("c", "Bash", {})),
  user(result("c", output)),
];

test("the report takes its numbers from the tool's output, and says when there are none", async () => {
  assert.match(
    await textOf(training(), ...trained("epoch 1 loss 8\nepoch 4 loss 2.5\n")),
    /from 8 in epoch 1 to 2.5 in epoch 4/,
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
