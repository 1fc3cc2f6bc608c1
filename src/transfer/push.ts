/** Files and folders from this machine to a running sandbox. Nothing leaves before all of it was searched for credentials. */
import { basename, resolve } from "node:path";
import type { Sandbox } from "../sandbox/provider.ts";
import type { Secret } from "../secret.ts";
import { CredentialSearch, type StreamSearch } from "./credential-search.ts";
import { FarSide } from "./far-side.ts";
import { outcomes } from "./inside/messages.ts";
import { openSource, Sender, type Source } from "./inside/sender.ts";
import { TransferFault } from "./inside/transfer-fault.ts";
import { nameOf } from "./pull.ts";
import { type Progress, Tally, type TransferReport } from "./report.ts";
import { searchSource } from "./search-source.ts";
import { credentialIn, faultError } from "./words.ts";

export interface PushOptions {
  sandbox: Sandbox;
  /** on this machine; links in it are not followed; `folder/` means what is in the folder */
  from: string;
  /** in the sandbox, relative to its working directory; a folder that is there gets the source inside it */
  to: string;
  /** replace files that are there with other content */
  overwrite?: boolean;
  /** what may not be in any file, by label; see knownCredentials */
  credentials: ReadonlyMap<string, Secret>;
  onProgress?: (progress: Progress) => void;
  signal?: AbortSignal;
}

/**
 * Throws a CredentialVisibleError when a file or its name contains one of `credentials`, in any form of credentialForms;
 * otherwise as `pull`. That files are in their place is the sandbox's word.
 */
export async function push(options: PushOptions): Promise<TransferReport> {
  const { sandbox, from, to, overwrite = false, signal } = options;
  const tally = new Tally(options.onProgress);
  try {
    using source = openSource(from);
    const search = new CredentialSearch(options.credentials);
    const total = await searchSource(source, search, signal);
    tally.total(total.files, total.bytes);
    using far = await FarSide.open(sandbox, signal);
    far.out.post({ t: "push", to, overwrite, source: resolve(from), ...nameOf(from, basename) });
    if (await deliver(source, far, search, tally)) return tally.report;
    throw await far.ended();
  } catch (error) {
    if (!(error instanceof TransferFault)) throw error;
    throw faultError(error, { direction: "push", from, to });
  }
}

/** False when the sandbox's program has ended too early. */
async function deliver(source: Source, far: FarSide, search: CredentialSearch, tally: Tally): Promise<boolean> {
  let current: { path: string; search: StreamSearch } | undefined;
  const sender = new Sender(source, far.out, {
    // a file may have been changed since it was searched
    onBytes: (path, bytes, position) => {
      if (current?.path !== path || position === 0) current = { path, search: search.begin() };
      const label = current.search.push(bytes);
      if (label !== undefined) throw credentialIn(label, path);
      tally.bytes(path, bytes.length, true);
    },
    onResumed: (path, bytes) => tally.bytes(path, bytes, false),
    onSkipped: (path, code) => tally.skipped(path, code),
    onResult: (entry, { outcome, code }) => {
      const known = outcomes.find((name) => name === outcome);
      if (!known) throw new TransferFault("protocol", "no known outcome");
      tally.settled(entry, known, code);
    },
  });
  const listening = (async () => {
    for await (const frame of far.frames()) {
      if (!("message" in frame)) throw new TransferFault("protocol", "data where none belongs");
      if (frame.message.t === "bye") return true;
      sender.receive(frame.message);
    }
    return false;
  })();
  const sending = sender.run().then(() => listening);
  return await Promise.race([listening, sending]);
}
