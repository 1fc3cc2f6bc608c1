/** gpu_report.py: what a sandbox has. Files of cgroups and NVIDIA's program are made by the test; the rest is this machine. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { answerOf, foldersIn, pythonInside, scriptFile } from "./inside.ts";
import { installTrainer, trainerPackages } from "./trainer-packages.ts";

const script = scriptFile("gpu_report.py");
const gibibyte = 2 ** 30;

interface Report {
  gpus: { name: string; memory_gib: number | null; free_gib: number | null; compute_capability: string }[];
  torch: { version?: string; cuda_available?: boolean; error?: string } | null;
  cpu: { cores: number };
  memory: { total_gib: number; available_gib: number; source: string };
  disk: { folder: string; free_gib: number } | null;
}

test("the scripts are Python 3.10, and import the standard library, each other, and torch when it is there", async () => {
  await using folder = await temporaryFolder();
  for (const [name, allowed] of [
    ["gpu_report.py", ["torch"]],
    ["fit_check.py", ["gpu_report", "model_shape"]],
    ["model_shape.py", []],
  ] as const) {
    const code = `
import ast, json, sys
tree = ast.parse(open(${JSON.stringify(scriptFile(name))}).read(), feature_version=(3, 10))
nodes = list(ast.walk(tree))
names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
print(json.dumps(sorted(name for name in names if name.split(".")[0] not in sys.stdlib_module_names)))`;
    assert.deepEqual(await answerOf({ folder: folder.path, packages: undefined }, code), [...allowed]);
  }
});

test("without a GPU and without torch it says so, and what else is there", async () => {
  await using folder = await temporaryFolder();
  const { data } = foldersIn(folder.path);
  mkdirSync(data);
  const setting = { folder: folder.path, packages: undefined };
  const said = await pythonInside(setting, ["-S", script]);
  assert.equal(said.code, 0, said.stderr);
  assert.match(said.stdout, /^GPU: none\. Training runs on the CPU.*\ntorch: not installed\nCPU: /);
  assert.ok(said.stdout.includes(`in ${data}\n`), said.stdout);
  const report = JSON.parse((await pythonInside(setting, ["-S", script, "--json"])).stdout) as Report;
  assert.deepEqual([report.gpus, report.torch, report.disk?.folder], [[], null, data]);
  assert.ok(report.cpu.cores > 0 && report.cpu.cores <= availableParallelism());
  assert.ok(report.memory.total_gib > 0 && report.memory.total_gib <= totalmem() / gibibyte + 0.01);
  assert.ok(report.memory.available_gib > 0 && report.memory.available_gib <= report.memory.total_gib);
});

test("GPUs are those that NVIDIA's program names; what it does not know is left open", async () => {
  await using folder = await temporaryFolder();
  const rows = "0, NVIDIA A10, 23028, 22515, 570.86.15, 8.6\n1, NVIDIA GB10, [N/A], [N/A], 580.1, 12.1\n";
  const environment = withNvidiaSmi(folder.path, `cat <<'end'\n${rows}end`);
  const setting = { folder: folder.path, packages: undefined, environment };
  const { gpus } = JSON.parse((await pythonInside(setting, ["-S", script, "--json"])).stdout) as Report;
  assert.deepEqual(
    gpus.map(({ name, memory_gib, free_gib, compute_capability }) => [name, memory_gib, free_gib, compute_capability]),
    [
      ["NVIDIA A10", 22.49, 21.99, "8.6"],
      ["NVIDIA GB10", null, null, "12.1"],
    ],
  );
  const { stdout } = await pythonInside(setting, ["-S", script]);
  assert.match(
    stdout,
    /^GPU 0: NVIDIA A10, 21\.99 of 22\.49 GiB free, compute capability 8\.6, driver 570\.86\.15\nGPU 1: /,
  );
  assert.match(stdout, /^GPU 1: NVIDIA GB10, size unknown/m);
});

test("a program of NVIDIA that fails, or says something else, is no GPU", async () => {
  for (const answer of ["echo 'NVIDIA-SMI has failed' >&2; exit 9", "echo 'No devices were found'"]) {
    await using folder = await temporaryFolder();
    const setting = { folder: folder.path, packages: undefined, environment: withNvidiaSmi(folder.path, answer) };
    const { code, stdout } = await pythonInside(setting, ["-S", script]);
    assert.equal(code, 0);
    assert.match(stdout, /^GPU: none/);
  }
});

test("torch says whether it uses the GPU, and a GPU that it does not use is pointed out", async (context) => {
  const reason = await installTrainer();
  if (reason !== undefined) return context.skip(reason);
  await using folder = await temporaryFolder();
  const environment = withNvidiaSmi(folder.path, "echo '0, NVIDIA A10, 23028, 22515, 570.86.15, 8.6'");
  const setting = { folder: folder.path, packages: trainerPackages, environment };
  const { stdout } = await pythonInside(setting, [script]);
  assert.match(stdout, /^torch: 2\.13\.0\+cpu does NOT use the GPU: it is a build for the CPU/m);
});

test("where only torch knows the GPU, it is torch's; emulated bf16 is none", async () => {
  await using folder = await temporaryFolder();
  const double = `
import types
__version__ = "2.13.0+cu130"
version = types.SimpleNamespace(cuda="13.0")
get_num_threads = lambda: 2
cuda = types.SimpleNamespace(
    is_available=lambda: True, device_count=lambda: 1, is_bf16_supported=lambda including_emulation=True: including_emulation,
    mem_get_info=lambda number: (14 * 2**30, 15 * 2**30), get_device_capability=lambda number: (7, 5), get_device_name=lambda number: "Tesla T4",
)
`;
  writeFileSync(join(folder.path, "torch.py"), double);
  const setting = { folder: folder.path, packages: folder.path, environment: withNvidiaSmi(folder.path, "exit 9") };
  const { stdout } = await pythonInside(setting, ["-S", script]);
  assert.match(stdout, /^GPU 0: Tesla T4, 14 of 15 GiB free, compute capability 7\.5\n/);
  assert.match(stdout, /^torch: 2\.13\.0\+cu130, uses 1 GPU, bf16 no: use fp16$/m);
});

test("a torch that cannot be loaded says why", async () => {
  await using folder = await temporaryFolder();
  writeFileSync(join(folder.path, "torch.py"), "raise OSError('libcudart.so.13: cannot open shared object file')\n");
  const { stdout } = await pythonInside({ folder: folder.path, packages: folder.path }, ["-S", script]);
  assert.match(stdout, /^torch: cannot be imported: libcudart\.so\.13: cannot open/m);
});

const machine = { "proc/meminfo": "MemTotal:       67108864 kB\nMemFree: 1 kB\nMemAvailable:   50331648 kB\n" };
const unlimited = "9223372036854771712";

const walls: Record<string, { files: Record<string, string>; memory: [number, number, string]; cores?: number }> = {
  "no cgroup": { files: {}, memory: [64, 48, "machine"] },
  "version 2": {
    files: {
      "proc/self/cgroup": "0::/box\n",
      "sys/fs/cgroup/box/memory.max": String(8 * gibibyte),
      "sys/fs/cgroup/box/memory.current": String(3 * gibibyte),
      "sys/fs/cgroup/box/memory.stat": `anon 1\ninactive_file ${gibibyte}\n`,
      "sys/fs/cgroup/box/cpu.max": "50000 100000\n",
    },
    memory: [8, 6, "cgroup"],
    cores: 0.5,
  },
  "version 2, walled above": {
    files: {
      "proc/self/cgroup": "0::/pod/box\n",
      "sys/fs/cgroup/pod/box/memory.max": "max\n",
      "sys/fs/cgroup/pod/memory.max": String(4 * gibibyte),
      "sys/fs/cgroup/pod/memory.current": String(gibibyte),
    },
    memory: [4, 3, "cgroup"],
  },
  "version 2, in a container that sees only its own group": {
    files: {
      "proc/self/cgroup": "0::/kubepods/of/the/host\n",
      "sys/fs/cgroup/memory.max": String(2 * gibibyte),
      "sys/fs/cgroup/memory.current": "0",
    },
    memory: [2, 2, "cgroup"],
  },
  "version 1": {
    files: {
      "proc/self/cgroup": "7:memory:/box\n3:cpu,cpuacct:/box\n",
      "sys/fs/cgroup/memory/box/memory.limit_in_bytes": String(16 * gibibyte),
      "sys/fs/cgroup/memory/box/memory.usage_in_bytes": String(4 * gibibyte),
      "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "25000",
      "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000",
    },
    memory: [16, 12, "cgroup"],
    cores: 0.25,
  },
  "version 1, not walled": {
    files: {
      "proc/self/cgroup": "7:memory:/\n",
      "sys/fs/cgroup/memory/memory.limit_in_bytes": unlimited,
      "sys/fs/cgroup/memory/memory.usage_in_bytes": "1",
    },
    memory: [64, 48, "machine"],
  },
};

for (const [name, { files, memory, cores }] of Object.entries(walls)) {
  test(`memory and cores are the sandbox's: ${name}`, async () => {
    await using folder = await temporaryFolder();
    for (const [path, content] of Object.entries({ ...machine, ...files })) {
      mkdirSync(dirname(join(folder.path, path)), { recursive: true });
      writeFileSync(join(folder.path, path), content);
    }
    const code = `
import json, pathlib, gpu_report
root = pathlib.Path(${JSON.stringify(folder.path)})
print(json.dumps([list(gpu_report.memory(root).values()), gpu_report.cores(root)]))`;
    const setting = { folder: folder.path, packages: undefined };
    const [seen, seenCores] = (await answerOf(setting, code)) as [unknown[], number];
    assert.deepEqual(seen, memory);
    if (cores === undefined) assert.ok(Number.isInteger(seenCores) && seenCores >= 1);
    else assert.equal(seenCores, cores);
  });
}

/** The environment in which NVIDIA's program is a script that answers so. */
function withNvidiaSmi(folder: string, answer: string): Record<string, string> {
  const bin = join(folder, "bin");
  mkdirSync(bin);
  writeFileSync(join(bin, "nvidia-smi"), `#!/bin/sh\n${answer}\n`, { mode: 0o755 });
  return { PATH: `${bin}:${process.env["PATH"]}` };
}
