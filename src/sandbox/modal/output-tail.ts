/** The last of what a main process writes, kept while it runs. */
import { setTimeout as sleep } from "node:timers/promises";
import type { ModalClient, Sandbox as SdkSandbox } from "modal";
import { LastOutput } from "../last-output.ts";
import { grpcStatus, statusOf } from "./modal-error.ts";
import { isOlderBackend } from "./sandbox-id.ts";

const retryMs = 500;
const maxRetries = 10;
const descriptors = { stdout: 1, stderr: 2 } as const;

export interface OutputTail {
  text(): string;
  /** resolves when there is no more to come: true when all of it came */
  readonly complete: Promise<boolean>;
}

/** Reads until the output ends or `signal` fires; whatever goes wrong leaves the tail as it is. */
export function followOutput(client: ModalClient, sandbox: SdkSandbox, signal: AbortSignal): OutputTail {
  const last = new LastOutput();
  const read = (name: "stdout" | "stderr") => {
    const keep = (text: string) => last.keep(name, Buffer.from(text));
    return isOlderBackend(sandbox.sandboxId)
      ? readLogs(client, sandbox.sandboxId, descriptors[name], keep, signal)
      : readStream(sandbox[name] as ReadableStream<string>, keep, signal);
  };
  return {
    text: () => last.text(),
    complete: Promise.all([read("stdout"), read("stderr")]).then(
      () => true,
      () => false,
    ),
  };
}

async function readStream(
  stream: ReadableStream<string>,
  keep: (text: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const reader = stream.getReader();
  signal.addEventListener("abort", () => void reader.cancel().catch(() => {}), { once: true });
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    keep(value);
  }
}

/**
 * The older backend's stream of log items. The SDK's own reader of it waits for ever after an item without data, and Modal
 * sends such items when a sandbox starts.
 */
async function readLogs(
  client: ModalClient,
  sandboxId: string,
  fileDescriptor: 1 | 2,
  keep: (text: string) => void,
  signal: AbortSignal,
): Promise<void> {
  let lastEntryId = "0-0";
  let retries = 0;
  while (!signal.aborted && retries <= maxRetries) {
    try {
      const batches = client.cpClient.sandboxGetLogs(
        { sandboxId, fileDescriptor, timeout: 55, lastEntryId },
        { signal },
      );
      for await (const batch of batches) {
        lastEntryId = batch.entryId;
        retries = 0;
        for (const { data } of batch.items) keep(data);
        if (batch.eof) return;
      }
    } catch (error) {
      if (statusOf(error) === grpcStatus.notFound || retries === maxRetries) throw error;
    }
    retries++;
    await sleep(retryMs, undefined, { ref: false });
  }
}
