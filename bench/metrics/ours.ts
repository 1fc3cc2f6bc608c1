/** Our own syncer as a process: how it is configured, started and asked. All that the benchmark knows of it is here. */
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { SyncSummary } from "../../src/syncer/sync-summary.ts";
import type { SyncerConfig } from "../../src/syncer/syncer-config.ts";
import { writeToken } from "../../test/syncer/trackio.ts";
import { type Child, startProgram } from "./children.ts";
import { processorMs } from "./processor.ts";

const program = join(import.meta.dirname, "../../src/syncer/main.ts");

export interface RunningSyncer extends AsyncDisposable {
  /** Processor time so far, with its reader's, in milliseconds. */
  processorMs(): number;
  /** The last summary if it is so, or the first that will be. Rejects when the syncer says that rows cannot go out. */
  until(isSo: (summary: SyncSummary) => boolean): Promise<SyncSummary>;
}

export interface SyncerPlace {
  /** what is watched */
  folder: string;
  /** where its files are; the same one again goes on where the last one stopped */
  stateFolder: string;
  /** of the server */
  address: string;
  intervalMs: number;
}

export async function startSyncer({ folder, stateFolder, address, intervalMs }: SyncerPlace): Promise<RunningSyncer> {
  const credentialsFolder = join(stateFolder, "credentials");
  mkdirSync(credentialsFolder, { recursive: true });
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(credentialsFolder, "TRACKIO_WRITE_TOKEN"), writeToken, { mode: 0o600 });
  const config: SyncerConfig = {
    folder,
    access: "published",
    statePath: join(stateFolder, "watermarks.db"),
    maxBytesPerHour: 2 ** 40,
    withMedia: true,
    spaces: [],
    server: address,
    credentialsFolder,
    controlPath: join(stateFolder, "control.sock"),
    intervalMs,
  };
  const child = startProgram(program, [], { MODAL_SB_SYNCER: JSON.stringify(config) });
  const control = await connected(config.controlPath, child);
  let last: SyncSummary | undefined;
  const waiting = new Set<(summary: SyncSummary) => void>();
  createInterface({ input: control }).on("line", (line) => {
    last = (JSON.parse(line) as { summary: SyncSummary }).summary;
    for (const take of waiting) take(last);
  });
  control.write('{"id":1,"op":"follow"}\n');
  return {
    processorMs: () => processorMs(child.pid),
    async until(isSo) {
      const { promise, resolve, reject } = Promise.withResolvers<SyncSummary>();
      const take = (summary: SyncSummary) => {
        // all is on loopback: waiting would not help, and its time would be in the figures
        if (summary.errors.length > 0) reject(new Error(`the syncer does not go on: ${summary.errors.join("; ")}`));
        else if (isSo(summary)) resolve(summary);
      };
      waiting.add(take);
      if (last) take(last);
      return await Promise.race([promise, child.ended]).finally(() => waiting.delete(take));
    },
    async [Symbol.asyncDispose]() {
      control.destroy();
      await child[Symbol.asyncDispose]();
    },
  };
}

async function connected(path: string, child: Child): Promise<Socket> {
  for (;;) {
    const socket = connect(path);
    try {
      await once(socket, "connect");
      return socket;
    } catch {
      socket.destroy();
      await Promise.race([new Promise((resolve) => setTimeout(resolve, 10)), child.ended]);
    }
  }
}
