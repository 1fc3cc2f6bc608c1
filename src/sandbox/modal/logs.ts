/** The output of main processes that Modal keeps, for as long as the plan says. */
import { within } from "./calls.ts";
import type { Account } from "./sdk.ts";

const answerMs = 20_000;
const maxEntries = 200;
const maxBytes = 8 * 1024;

/** At most 8 KiB; undefined when nothing is kept. Hostile. */
export async function logTail({ client }: Account, sandboxId: string): Promise<string | undefined> {
  return await within(answerMs, "for a sandbox's logs", async () => {
    const sandbox = await client.sandboxes.fromId(sandboxId);
    let text = "";
    for await (const entry of sandbox.logs.tail({ entries: maxEntries })) {
      if (entry.source !== "system") text += entry.message;
    }
    return text === "" ? undefined : Buffer.from(text).subarray(-maxBytes).toString("utf8");
  });
}
