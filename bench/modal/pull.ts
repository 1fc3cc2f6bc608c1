/**
 * How fast a large file comes out of a sandbox, beside `cat` over the same exec into a file that is flushed as well. The
 * pull also hashes on both sides, and cuts into frames.
 */
import { createWriteStream } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import type { Provider, Sandbox } from "../../src/sandbox/provider.ts";
import { createProvider } from "../../src/sandbox/sandbox.ts";
import { runtimeFiles } from "../../src/session/runtime-files.ts";
import { pull } from "../../src/transfer/pull.ts";
import { shellInside } from "../../test/helpers/run-inside.ts";
import { sandboxSpec, testLimits } from "../../test/helpers/sandbox-spec.ts";
import { temporaryFolder } from "../../test/helpers/temporary-folder.ts";
import { startEmulator, whyNot } from "../../test/modal-emulator/emulator.ts";
import { alternate, type Figures, figure, median } from "../measure.ts";

const sizeMiB = 256;
const smallFiles = 10_000;
const rounds = 5;
const largePath = "/tmp/large";

/** Ratios of this run; the emulator stands for Modal's part, whose own network is not in it. */
export async function benchPull(): Promise<Figures> {
  await using folder = await temporaryFolder();
  const figures = await withLocal(folder.path, async (provider) => ({
    ...(await stream("local", provider, folder.path)),
    ...(await manyFiles(provider, folder.path)),
  }));
  if ((await whyNot()) === undefined) {
    await using emulator = await startEmulator();
    const hostEnvironment = { ...process.env, ...emulator.environment };
    await using provider = await createProvider("modal", { stateFolder: join(folder.path, "modal"), hostEnvironment });
    Object.assign(figures, await stream("emulator", provider, folder.path));
  }
  return figures;
}

async function withLocal<Result>(folder: string, use: (provider: Provider) => Promise<Result>): Promise<Result> {
  const stateFolder = join(folder, "local");
  await using provider = await createProvider("local", { stateFolder, hostEnvironment: process.env });
  return await use(provider);
}

function sandboxOf(provider: Provider, folder: string): Promise<Sandbox> {
  return provider.create(
    sandboxSpec({
      files: runtimeFiles(["transfer/inside"], [], folder),
      limits: { ...testLimits, memoryMiB: 2048, fileSizeMiB: 1024 },
    }),
  );
}

async function stream(where: string, provider: Provider, folder: string): Promise<Figures> {
  await using sandbox = await sandboxOf(provider, folder);
  await shellInside(sandbox, `head -c ${sizeMiB}M /dev/urandom > ${largePath}`);
  const to = join(folder, "copy");
  const timed = async (bring: () => Promise<unknown>) => {
    const startedAt = performance.now();
    await bring();
    const mibPerSecond = (sizeMiB * 1000) / (performance.now() - startedAt);
    await rm(to);
    return mibPerSecond;
  };
  const { a: cat, b: ours } = await alternate(
    rounds,
    () => timed(() => catTo(sandbox, to)),
    () => timed(() => pull({ sandbox, from: largePath, to })),
  );
  return {
    [`pull, ${where}`]: figure(median(ours), "MiB/s"),
    [`cat into a file, ${where}`]: figure(median(cat), "MiB/s"),
    [`pull ÷ cat, ${where}`]: figure(median(ours.map((value, round) => value / (cat[round] ?? 0))), "", 0.7, "floor"),
  };
}

async function catTo(sandbox: Sandbox, to: string): Promise<void> {
  const process = await sandbox.exec(["cat", largePath]);
  process.stdin.end();
  process.stderr.resume();
  await pipeline(process.stdout, createWriteStream(to, { flush: true }));
}

async function manyFiles(provider: Provider, folder: string): Promise<Figures> {
  await using sandbox = await sandboxOf(provider, folder);
  const make = `mkdir /tmp/many; cd /tmp/many; for i in $(seq 100); do mkdir $i; for j in $(seq ${smallFiles / 100}); do echo $j > $i/$j; done; done`;
  await shellInside(sandbox, make);
  const to = join(folder, "many");
  const rates: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const startedAt = performance.now();
    await pull({ sandbox, from: "/tmp/many", to });
    rates.push((smallFiles * 1000) / (performance.now() - startedAt));
    await rm(to, { recursive: true });
  }
  return { "pull, small files": figure(median(rates), "files/s") };
}
