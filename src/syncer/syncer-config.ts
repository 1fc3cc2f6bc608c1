/** What the host tells a syncer of its own, in the environment variable MODAL_SB_SYNCER, and the tokens in their files. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Secret } from "../secret.ts";
import type { SyncerOptions } from "./syncer.ts";

export interface SyncerConfig extends Omit<SyncerOptions, "hfToken" | "writeToken"> {
  /** folder of the tokens: HF_TOKEN, TRACKIO_WRITE_TOKEN */
  credentialsFolder: string;
  /** unix socket on which the host gives orders */
  controlPath: string;
  /** how to make the first Space when it is missing; undefined: not */
  createSpace?: "private" | "public" | undefined;
  /** from the end of a look to the next, in milliseconds */
  intervalMs: number;
  /** one drain of at most so long, in milliseconds, then the end; undefined: looks until it is told to stop */
  onceMs?: number;
}

/** Throws when the variable is absent: only a wrong host can cause that. */
export function readSyncerConfig(json: string | undefined, onceMs?: string): SyncerConfig & SyncerOptions {
  if (json === undefined) throw new Error("MODAL_SB_SYNCER is not set");
  const config = JSON.parse(json) as SyncerConfig;
  const hfToken = tokenIn(config.credentialsFolder, "HF_TOKEN");
  const writeToken = tokenIn(config.credentialsFolder, "TRACKIO_WRITE_TOKEN");
  return {
    ...config,
    ...(onceMs !== undefined && { onceMs: Number(onceMs) }),
    ...(hfToken && { hfToken }),
    ...(writeToken && { writeToken }),
  };
}

function tokenIn(folder: string, name: string): Secret | undefined {
  const path = join(folder, name);
  return existsSync(path) ? new Secret(readFileSync(path, "utf8").trim()) : undefined;
}
