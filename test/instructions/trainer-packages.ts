/** torch for the CPU, transformers and what trains with them from PyPI: about 1.5 GB, installed once for this user. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

const torch = "torch==2.13.0";
/** The newest of each, together. torch is named in the same call: a dependency alone would bring its newest version. */
export const pinnedPackages: readonly string[] = [
  torch,
  "transformers==5.24.0",
  "accelerate==1.15.0",
  "datasets==5.2.0",
  "peft==0.21.2",
  "tokenizers==0.23.3",
  "trackio==0.43.0",
  "huggingface_hub==2.4.0",
];

/** Where Python finds them: another list is another folder. */
export const trainerPackages = join(
  homedir(),
  `.cache/modal-sb-test/trainer-${createHash("sha256").update(pinnedPackages.join(" ")).digest("hex").slice(0, 12)}`,
);

/** A string says why they cannot be installed. */
export async function installTrainer(): Promise<string | undefined> {
  if (existsSync(trainerPackages)) return undefined;
  const draft = `${trainerPackages}.${process.pid}`;
  mkdirSync(draft, { recursive: true });
  try {
    if (await bringsCuda()) {
      return `${torch} for CUDA, several GB, is all that pip finds: PIP_EXTRA_INDEX_URL can name an index of torch for the CPU`;
    }
    await run("python3", ["-m", "pip", "install", "-q", "--target", draft, ...pinnedPackages]);
    renameSync(draft, trainerPackages);
    return undefined;
  } catch (error) {
    return existsSync(trainerPackages) ? undefined : `transformers cannot be installed: ${(error as Error).message}`;
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

/** A torch for CUDA needs the packages of its maker. */
async function bringsCuda(): Promise<boolean> {
  const report = ["--dry-run", "--ignore-installed", "--no-deps", "--report", "-"];
  const options = { maxBuffer: 64 * 1024 * 1024 };
  const { stdout } = await run("python3", ["-m", "pip", "install", "-q", ...report, torch], options);
  const { install } = JSON.parse(stdout) as { install: { metadata: { requires_dist?: string[] } }[] };
  return install.some(({ metadata }) => metadata.requires_dist?.some((name) => /^(?:nvidia|cuda)-/.test(name)));
}
