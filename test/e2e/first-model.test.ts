/**
 * A model, from the wish to the file on this machine: the real claude, driven as a careful reader of the skills would drive it,
 * trains with transformers in a real sandbox, which is killed in the middle; metrics reach a real trackio server.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { ModelRequest } from "../../src/demo/model-request.ts";
import { type Reply, script, text, toolUse } from "../../src/demo/script.ts";
import { Secret } from "../../src/secret.ts";
import { pull } from "../../src/transfer/pull.ts";
import { type RunningSession, runningSession } from "../helpers/running-session.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { installTrainer, trainerPackages } from "../instructions/trainer-packages.ts";
import { copyOf, isInstalled, newest } from "../syncer/runs.ts";
import { startTrackio, writeToken } from "../syncer/trackio.ts";

const steps = 300;
/** the sandbox is killed behind the first checkpoint, which is made at 50, and before the next */
const lastStep = 70;
const program = readFileSync(join(import.meta.dirname, "first-model/train.py"), "utf8");
const scripts = "/app/.claude/scripts";

const bash = (command: string) => toolUse("Bash", { command, timeout: 600_000 });

/** Reads a skill, looks at the machine, tries, starts detached, waits for a checkpoint; later goes on from there. */
const carefulUser = script(
  [
    {
      when: /^Train/,
      replies: [
        toolUse("Read", { file_path: "/app/.claude/skills/transformers/SKILL.md" }),
        bash(`python3 ${scripts}/gpu_report.py; python3 ${scripts}/fit_check.py --parameters 30K --gpu T4`),
        toolUse("Write", { file_path: "/app/train.py", content: program }),
        bash(
          `run_dir=$(python3 ${scripts}/setup_trackio.py tiny) && echo "run $run_dir" && setsid nohup python3 -u /app/train.py "$run_dir" ${steps} ${lastStep} >> "$run_dir/train.log" 2>&1 < /dev/null &
          sleep 1; until ls /data/runs/tiny-*/checkpoint/checkpoint-*/trainer_state.json > /dev/null 2>&1; do sleep 0.2; done; ls -d /data/runs/tiny-*`,
        ),
        lastResult,
      ],
    },
    {
      when: /^Go on/,
      replies: [
        bash(
          `run_dir=$(ls -d /data/runs/tiny-*); python3 -u /app/train.py "$run_dir" ${steps} 2>&1 | grep -E '^(from|accuracy)|Error'`,
        ),
        lastResult,
      ],
    },
  ],
  text("I know two things to do."),
);

function lastResult({ toolResults }: ModelRequest): Reply {
  return text(toolResults.at(-1)?.text ?? "");
}

/** As if the agent had installed them in its environment, which lies on the volume. */
async function prewarm({ provider, session }: RunningSession): Promise<void> {
  await session.ready;
  const data = (await provider.peek(`${session.name}-data`))?.hostPath ?? "";
  const version = execFileSync("python3", ["-c", "import sys; print('python%d.%d' % sys.version_info[:2])"]);
  const packages = join(data, "venv/lib", version.toString().trim(), "site-packages");
  mkdirSync(packages, { recursive: true });
  execFileSync("cp", ["-rl", "--no-clobber", `${trainerPackages}/.`, packages]);
}

test("a training survives its sandbox, its metrics arrive, and the model that is brought home predicts", async (context) => {
  const reason = await installTrainer();
  if (reason !== undefined) return context.skip(reason);
  if (!(await isInstalled(newest, context))) return;
  await using remote = await temporaryFolder();
  await using server = await startTrackio(newest, "own", remote.path);
  const metrics = { server: server.address, writeToken: new Secret(writeToken), spaces: [], withMedia: false };
  await using running = await runningSession({
    script: carefulUser,
    changes: {
      metrics: { ...metrics, intervalMs: 1000, maxBytesPerHour: 2 ** 30 },
      limits: { memoryMiB: 6144, processes: 512, fileSizeMiB: 1024, lifetimeMs: 6 * 3_600_000 },
    },
  });
  await prewarm(running);
  const begun = await running.say("Train a tiny classifier.");
  const [runDir = ""] = /\/data\/runs\/tiny-[\d-]+/.exec(begun.text) ?? [];
  assert.ok(runDir, begun.text);
  await (await running.agent()).terminate();

  const end = await running.say("Go on where it was.");
  const [, from = "", reached = ""] = /^from step (\d+)\n[\s\S]*accuracy ([\d.]+)/m.exec(end.text) ?? [];
  assert.equal(from, "50", end.text);
  assert.ok(Number(reached) > 0.9, end.text);
  const isWhole = () => losses(join(remote.path, "tiny.db")).includes(steps);
  await running.waitFor("metrics", ({ waiting }) => waiting === 0 && isWhole());
  const logged = losses(join(remote.path, "tiny.db"));
  assert.ok(logged.includes(10), "rows from before the sandbox was killed");

  await using home = await temporaryFolder();
  await pull({ sandbox: await running.agent(), from: `${runDir}/model`, to: home.path });
  const predict = `
import sys, torch
from transformers import BertForSequenceClassification
model = BertForSequenceClassification.from_pretrained(sys.argv[1]).eval()
tokens = torch.randint(2, 64, (500, 12), generator=torch.Generator().manual_seed(3))
print(float((model(input_ids=tokens).logits.argmax(-1) == (tokens[:, 1] > 32)).float().mean()))`;
  const env = { ...process.env, PYTHONPATH: trainerPackages, HF_HUB_OFFLINE: "1" };
  const accuracy = Number(execFileSync("python3", ["-c", predict, join(home.path, "model")], { env }));
  assert.ok(accuracy > 0.9, String(accuracy));
});

/** Steps whose loss the server has, of all runs. */
function losses(path: string): number[] {
  const db = copyOf(path);
  try {
    return db
      .prepare("SELECT CAST(metrics AS TEXT) AS text FROM metrics")
      .all()
      .map(({ text: row }) => JSON.parse(String(row)) as Record<string, number>)
      .flatMap(({ "train/loss": loss, "train/global_step": step = 0 }) => (loss === undefined ? [] : [step]));
  } finally {
    db.close();
  }
}
