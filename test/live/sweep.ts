/** Ends and deletes what runs of the suite left at Modal. */
import { setTimeout as sleep } from "node:timers/promises";
import { messageOf } from "../../src/errors.ts";
import { isNotFound } from "../../src/sandbox/modal/modal-error.ts";
import { isOlderBackend } from "../../src/sandbox/modal/sandbox-id.ts";
import type { Account } from "../../src/sandbox/modal/sdk.ts";
import type { RunFolder } from "./run-folder.ts";

export const liveTag = "modal-sb-live";

/** tags of the suite's own sandboxes, and of what modal-sb makes in the suite's app */
const ourTags = [liveTag, "modal-sb"];
const pauseMs = 500;
const maxRounds = 60;
const maxPages = 50;

interface Running {
  id: string;
  tags: string[];
}

/** All that runs in the suite's app. Both lists are asked: whether one has all is question 4. */
export async function runningInApp({ client, app }: Account): Promise<Running[]> {
  const { appId } = await app();
  const found = new Map<string, Running>();
  for (const list of [client.cpClient.sandboxListV2, client.cpClient.sandboxList]) {
    let beforeTimestamp: number | undefined;
    for (let page = 0; page < maxPages; page++) {
      const { sandboxes } = await list({ appId, ...(beforeTimestamp !== undefined && { beforeTimestamp }) });
      if (sandboxes.length === 0) break;
      for (const { id, tags } of sandboxes) found.set(id, { id, tags: tags.map(({ tagName }) => tagName) });
      beforeTimestamp = sandboxes.at(-1)?.createdAt;
    }
  }
  return [...found.values()];
}

/** Ends ours until none is listed twice in a row: one that was being made appears late. Gives the ids of those it ended. */
export async function endSandboxes(account: Account): Promise<string[]> {
  const ended = new Set<string>();
  let emptyRounds = 0;
  for (let round = 0; emptyRounds < 2; round++) {
    if (round === maxRounds) throw new Error(`sandboxes of the suite still run: ${[...ended].join(", ")}`);
    if (round > 0) await sleep(pauseMs);
    const running = await ourRunning(account);
    emptyRounds = running.length === 0 ? emptyRounds + 1 : 0;
    for (const id of running) {
      ended.add(id);
      await end(account, id);
    }
  }
  return [...ended];
}

async function ourRunning(account: Account): Promise<string[]> {
  const ours: string[] = [];
  for (const { id, tags } of await runningInApp(account)) {
    // a list need not tell the tags
    const known = tags.length > 0 ? tags : Object.keys(await tagsOf(account, id));
    if (known.some((tag) => ourTags.includes(tag))) ours.push(id);
  }
  return ours;
}

async function tagsOf({ client }: Account, id: string): Promise<Record<string, string>> {
  try {
    return await (await client.sandboxes.fromId(id)).getTags();
  } catch (error) {
    if (isNotFound(error)) return {};
    throw error;
  }
}

async function end({ client }: Account, sandboxId: string): Promise<void> {
  try {
    if (isOlderBackend(sandboxId)) await client.cpClient.sandboxTerminate({ sandboxId });
    else await client.cpClient.sandboxTerminateV2({ sandboxId });
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}

/** Deletes the volumes that the run wrote down. Gives a sentence for each that could not be. */
export async function deleteVolumes({ client }: Account, folder: RunFolder): Promise<string[]> {
  const failures: string[] = [];
  for (const name of new Set(folder.volumes())) {
    try {
      await client.volumes.delete(name, { allowMissing: true });
    } catch (error) {
      failures.push(`the volume "${name}" could not be deleted: ${messageOf(error)}`);
    }
  }
  return failures;
}
