/** Files and folders from a running sandbox to this machine. */
import { posix } from "node:path";
import type { Sandbox } from "../sandbox/provider.ts";
import { FarSide } from "./far-side.ts";
import { Receiver } from "./inside/receiver.ts";
import { TransferFault } from "./inside/transfer-fault.ts";
import { type Progress, Tally, type TransferReport } from "./report.ts";
import { faultError } from "./words.ts";

const defaultMaxEntries = 1_000_000;

export interface PullOptions {
  sandbox: Sandbox;
  /** in the sandbox, where its own links are followed; `folder/` means what is in the folder */
  from: string;
  /** on this machine; a folder that is there gets the source inside it */
  to: string;
  /** replace files that are there with other content */
  overwrite?: boolean;
  onProgress?: (progress: Progress) => void;
  signal?: AbortSignal;
  /** of all files together; undefined: as much as the disk has room for */
  maxBytes?: number;
  /** files, folders and what is skipped; a million when undefined */
  maxEntries?: number;
}

/**
 * Resolves also when single files could not be transferred: see the report. Throws a UsageError when source or target cannot
 * be used or a limit is reached, a SandboxError when the sandbox does not keep to the rules or ends, and the signal's reason.
 * What was complete is then in its place, and the same call goes on after it.
 */
export async function pull(options: PullOptions): Promise<TransferReport> {
  const { sandbox, from, to, overwrite = false, signal } = options;
  const { maxBytes = Number.POSITIVE_INFINITY, maxEntries = defaultMaxEntries } = options;
  const tally = new Tally(options.onProgress);
  using far = await FarSide.open(sandbox, signal);
  const receiver = new Receiver(
    {
      ...{ to, source: from, overwrite, maxBytes, maxEntries, signal },
      ...nameOf(from, posix.basename),
      ...{ durable: true, tellOutcomes: false, modeMask: 0o700 },
    },
    far.out,
    {
      onResult: (entry, outcome, code) => tally.settled(entry, outcome, code),
      onSkipped: (path, code) => tally.skipped(path, code),
      onBytes: (path, bytes, sent) => tally.bytes(path, bytes, sent),
      onTotal: (files, bytes) => tally.total(files, bytes),
    },
  );
  try {
    far.out.post({ t: "pull", from });
    for await (const frame of far.frames()) if (await receiver.receive(frame)) return tally.report;
  } catch (error) {
    if (!(error instanceof TransferFault)) throw error;
    throw faultError(error, { direction: "pull", from, to });
  } finally {
    await receiver.leave();
  }
  throw await far.ended();
}

/** The name that a source has in a folder, and whether its content is meant: "runs/", "." and "/" have no name. */
export function nameOf(from: string, basename: (path: string) => string): { name: string; contents: boolean } {
  const name = basename(from);
  const contents = from.endsWith("/") || name === "." || name === ".." || name === "";
  return { name, contents };
}
