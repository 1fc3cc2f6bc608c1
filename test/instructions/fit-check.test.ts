/** fit_check.py: its answers, against the memory of real models, published counts of parameters, and what the pages say. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { answerOf, pythonInside, scriptFile } from "./inside.ts";
import { pythonAtHome } from "./page-sandbox.ts";
import { instructions } from "./skill-pages.ts";
import { installTrainer, trainerPackages } from "./trainer-packages.ts";

const script = scriptFile("fit_check.py");

interface Answer {
  parameters: number;
  parameters_are: string;
  trained: number;
  gib: Record<string, number>;
  total_gib: number;
  error: number;
  gpu_gib: number | null;
  fits: boolean | null;
  helps: string[];
}

/** Runs it in an empty place without a network and without a GPU. */
async function ask(
  folder: string,
  argv: readonly string[],
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const bin = join(folder, "bin");
  mkdirSync(bin, { recursive: true });
  writeFileSync(join(bin, "nvidia-smi"), "#!/bin/sh\nexit 9\n", { mode: 0o755 });
  const environment = { PATH: `${bin}:${process.env["PATH"]}` };
  return pythonInside({ folder, packages: undefined, environment }, ["-S", script, ...argv]);
}

async function answer(folder: string, argv: readonly string[]): Promise<Answer> {
  const { stdout, stderr } = await ask(folder, [...argv, "--json"]);
  assert.ok(stdout, stderr);
  return JSON.parse(stdout) as Answer;
}

test("it ends with 0 when the model fits, with 1 when not, with 2 when the question is wrong", async () => {
  await using folder = await temporaryFolder();
  const cases: [number, RegExp, string[]][] = [
    [0, /^Fits A100-80GB, which has 80 GiB\.$/m, ["--parameters", "350M", "--gpu", "A100-80GB", "--checkpointing"]],
    [0, /^There is no GPU here/m, ["--parameters", "7B"]],
    [0, /^Fits 24 GiB/m, ["--parameters", "7B", "--method", "inference", "--precision", "int4", "--memory", "24"]],
    [
      1,
      /^Does NOT fit A10, which has 22\.49 GiB\.\nIt would with: .*--method lora/m,
      ["--parameters", "7B", "--gpu", "a10"],
    ],
    [1, /^Nothing that this script knows/m, ["--parameters", "2T", "--gpu", "T4"]],
    [0, /^May fit L4.*closely/m, ["--parameters", "1B", "--gpu", "L4", "--checkpointing"]],
    [2, /give a model or --parameters/, []],
    [2, /--parameters is a number such as 350M or 7B/, ["--parameters", "many"]],
    [2, /--gpu knows T4, .*: for RTX9 give --memory/, ["--parameters", "7B", "--gpu", "RTX9"]],
    [2, /acme\/unknown is not in the cache .*: --download fetches/, ["acme/unknown", "--gpu", "A10"]],
    [2, /cannot be reached/, ["acme/unknown", "--gpu", "A10", "--download"]],
    [2, /has no config\.json, and is no id/, ["./no/such/folder"]],
    [2, /int4 cannot be trained: --method lora/, ["--parameters", "7B", "--precision", "int4"]],
    [2, /invalid positive value: '0'/, ["--parameters", "7B", "--batch", "0"]],
    [2, /invalid choice: 'magic'/, ["--parameters", "7B", "--method", "magic"]],
  ];
  for (const [code, expected, argv] of cases) {
    const said = await ask(folder.path, argv);
    assert.equal(said.code, code, `${argv.join(" ")}\n${said.stdout}${said.stderr}`);
    assert.match(code === 2 ? said.stderr : said.stdout, expected);
    if (code !== 2) assert.match(said.stdout, /^This is an estimate: the truth lies within about \d\d % of it/m);
  }
});

test("what it says would help does help, and less would not", async () => {
  await using folder = await temporaryFolder();
  const question = ["--parameters", "7B", "--gpu", "L4", "--batch", "4", "--length", "2048"];
  const { helps, fits } = await answer(folder.path, question);
  assert.equal(fits, false);
  const flags = helps.map((help) => help.replace(/ \(.*\)/, "").split(" "));
  assert.equal((await answer(folder.path, [...question, ...flags.flat()])).fits, true);
  assert.equal((await answer(folder.path, [...question, ...flags.slice(0, -1).flat()])).fits, false);
});

/** Configs as they are published, with the number of weights in their files. */
const published: Record<string, [number, Record<string, unknown>]> = {
  "Llama 2 7B": [
    6_738_415_616,
    {
      ...sizes(4096, 11008, 32, 32, 32000),
      model_type: "llama",
      architectures: ["LlamaForCausalLM"],
      tie_word_embeddings: false,
    },
  ],
  "Qwen3 0.6B": [
    596_049_920,
    {
      ...sizes(1024, 3072, 28, 16, 151_936),
      ...{ num_key_value_heads: 8, head_dim: 128, tie_word_embeddings: true },
      ...{ model_type: "qwen3", architectures: ["Qwen3ForCausalLM"] },
    },
  ],
  "Mixtral 8x7B": [
    46_702_792_704,
    {
      ...sizes(4096, 14336, 32, 32, 32000),
      ...{ num_key_value_heads: 8, num_local_experts: 8, tie_word_embeddings: false },
      ...{ model_type: "mixtral", architectures: ["MixtralForCausalLM"] },
    },
  ],
  "GPT-2": [
    124_439_808,
    {
      ...{ n_embd: 768, n_layer: 12, n_head: 12, n_positions: 1024, vocab_size: 50257 },
      ...{ model_type: "gpt2", architectures: ["GPT2LMHeadModel"], tie_word_embeddings: true },
    },
  ],
  "BERT base": [
    109_482_240,
    {
      ...sizes(768, 3072, 12, 12, 30522),
      max_position_embeddings: 512,
      model_type: "bert",
      architectures: ["BertForMaskedLM"],
    },
  ],
};

function sizes(hidden: number, inner: number, layers: number, heads: number, words: number) {
  return {
    hidden_size: hidden,
    intermediate_size: inner,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    vocab_size: words,
  };
}

for (const [name, [parameters, config]] of Object.entries(published)) {
  test(`it counts the parameters of ${name} from its config, within 1 %`, async () => {
    await using folder = await temporaryFolder();
    writeFileSync(join(folder.path, "config.json"), JSON.stringify(config));
    for (const model of [folder.path, join(folder.path, "config.json")]) {
      const found = await answer(folder.path, [model]);
      assert.equal(found.parameters_are, "computed from the config");
      assert.ok(Math.abs(found.parameters / parameters - 1) < 0.01, `${found.parameters} of ${parameters}`);
    }
  });
}

test("weights that are there are counted, in the Hub's cache as well, and quantised ones are not", async () => {
  await using folder = await temporaryFolder();
  const [, config] = published["Qwen3 0.6B"] ?? [];
  const snapshot = join(folder.path, "hf-cache/hub/models--acme--tiny/snapshots/0123");
  mkdirSync(snapshot, { recursive: true });
  writeFileSync(join(snapshot, "config.json"), JSON.stringify(config));
  const weights = (dtype: string) => ({
    a: { dtype, shape: [1000, 3000] },
    b: { dtype, shape: [7] },
    __metadata__: { format: "pt" },
  });
  writeFileSync(join(snapshot, "model.safetensors"), safetensors(weights("BF16")));
  const found = await answer(folder.path, ["acme/tiny"]);
  assert.deepEqual([found.parameters, found.parameters_are], [3_000_007, "counted in its weights"]);
  assert.equal((await answer(folder.path, ["acme/tiny", "--parameters", "5K"])).parameters, 5000);
  writeFileSync(join(snapshot, "model.safetensors"), safetensors(weights("U8")));
  assert.equal((await answer(folder.path, ["acme/tiny"])).parameters_are, "computed from the config");
});

test("files that are broken are a wrong question, and no traceback", async () => {
  await using folder = await temporaryFolder();
  const broken: Record<string, string | Buffer>[] = [
    { "config.json": "{" },
    { "config.json": "[]" },
    { "config.json": '{"model_type": "new"}' },
    { "config.json": JSON.stringify(published["GPT-2"]?.[1]), "model.safetensors": "short" },
    {
      "config.json": JSON.stringify(published["GPT-2"]?.[1]),
      "model.safetensors": safetensors({ a: { dtype: "F32" } }),
    },
  ];
  for (const [index, files] of broken.entries()) {
    const model = join(folder.path, String(index));
    mkdirSync(model);
    for (const [name, content] of Object.entries(files)) writeFileSync(join(model, name), content);
    const { code, stderr } = await ask(folder.path, [model]);
    assert.equal(code, 2, stderr);
    assert.doesNotMatch(stderr, /Traceback/);
  }
});

test("a config is fetched when that is asked for, from the Hub that the environment names", async () => {
  await using folder = await temporaryFolder();
  const paths: string[] = [];
  const server = createServer((request, response) => {
    paths.push(`${request.method} ${request.url} ${request.headers.authorization}`);
    if (request.url?.startsWith("/acme/known/")) return response.end(JSON.stringify(published["GPT-2"]?.[1]));
    response.writeHead(403, { "x-modal-sb-reason": "repository_not_granted" }).end("allowed: acme/known");
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const fetching = async (model: string) => {
    const { PATH } = process.env;
    const env = { PATH, HF_HOME: folder.path, HF_ENDPOINT: origin, HF_TOKEN: "sandbox-key", TMPDIR: folder.path };
    const child = spawn("python3", ["-S", script, model, "--download", "--gpu", "T4"], { env });
    const exited = once(child, "exit");
    const said = await Promise.all([text(child.stdout), text(child.stderr)]);
    return { code: (await exited)[0] as number, said: said.join("") };
  };
  const known = await fetching("acme/known");
  const refused = await fetching("acme/other");
  server.close();
  assert.equal(known.code, 0, known.said);
  assert.match(known.said, /^acme\/known: 0\.124 billion parameters/);
  assert.equal(refused.code, 2);
  assert.match(refused.said, /answers 403 for acme\/other: allowed: acme\/known/);
  assert.deepEqual(
    paths,
    ["known", "other"].map((name) => `GET /acme/${name}/resolve/main/config.json Bearer sandbox-key`),
  );
});

/** What fit_check.py claims of itself, and a little more for what a CPU does differently. */
const factor = 1.35;

test("the estimate is near the real memory of models that train here", async (context) => {
  const reason = await installTrainer();
  if (reason !== undefined) return context.skip(reason);
  await using folder = await temporaryFolder();
  // large tensors go back to the system at once, so that the highest use is that of the tensors
  const environment = { MALLOC_MMAP_THRESHOLD_: "65536", MALLOC_TRIM_THRESHOLD_: "65536" };
  const sandbox = { folder: folder.path, packages: trainerPackages, environment };
  const names = (process.env["MEASURED_MODELS"] ?? "").split(",").filter(Boolean);
  const { code, stdout, stderr } = await pythonAtHome(sandbox, "measure_memory.py", names);
  assert.equal(code, 0, stderr);
  const cases = JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as Record<string, Measured>;
  assert.equal(Object.keys(cases).length, names.length || 9);
  for (const [name, { estimate, measured, parameters }] of Object.entries(cases)) {
    const ratio = measured / estimate;
    context.diagnostic(`${name}: measured ${Math.round(measured / 2 ** 20)} MiB, ${ratio.toFixed(2)} of the estimate`);
    assert.ok(ratio > 1 / factor && ratio < factor, `${name}: ${ratio}`);
    const [counted = 0, real = 0] = parameters;
    assert.ok(Math.abs(counted / real - 1) < 0.02, `${name}: ${counted} parameters of ${real}`);
  }
});

interface Measured {
  estimate: number;
  measured: number;
  parameters: number[];
}

test("the table of GPUs in the skill is what the script computes", async () => {
  await using folder = await temporaryFolder();
  const page = readFileSync(join(instructions, "skills/transformers/references/memory.md"), "utf8");
  const rows = [
    ...page.matchAll(/^\| ([A-Z][\w, -]+) \| (\d+) \| (?:yes|no) \| ([\d.]+) B \| ([\d.]+) B \| ([\d.]+) B \|$/gm),
  ];
  assert.ok(rows.length >= 7);
  const code = `
import json, fit_check, model_shape
def largest(room, **plan):
    plan = fit_check.Plan(batch=1, length=1024, checkpointing=True, **plan)
    low, high = 1e7, 1e12
    for _ in range(50):
        middle = (low * high) ** 0.5
        fits = sum(fit_check.parts_of(model_shape.guessed_shape(int(middle)), plan).values()) <= room
        low, high = (middle, high) if fits else (low, middle)
    return low / 1e9
ways = [dict(method="full", precision="mixed"), dict(method="lora", precision="bf16"), dict(method="lora", precision="int4")]
print(json.dumps({name: [size / 1024] + [largest(size * 2**20, **way) for way in ways] for name, size in fit_check.GPUS.items()}))`;
  const computed = (await answerOf({ folder: folder.path, packages: undefined }, code)) as Record<string, number[]>;
  for (const [, names = "", ...cells] of rows) {
    for (const name of names.split(", ")) {
      const [size = 0, ...largest] = computed[name] ?? [];
      const [said = 0, ...saidLargest] = cells.map(Number);
      assert.ok(Math.abs(size - said) < 1, `${name} has ${size} GiB`);
      for (const [index, number] of saidLargest.entries()) {
        const ratio = number / (largest[index] ?? 0);
        // what is promised to fit must fit, and not by far too little
        assert.ok(ratio <= 1 && ratio > 0.6, `${name}: ${number} B of ${largest[index]} B`);
      }
    }
  }
});

function safetensors(header: object): Buffer {
  const json = Buffer.from(JSON.stringify(header));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([size, json]);
}
