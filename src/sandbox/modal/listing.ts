/** The running sandboxes of this installation, by the labels that the server has of them. */
import type { Sandbox as SdkSandbox } from "modal";
import type { SandboxRecord } from "../provider.ts";
import { within } from "./calls.ts";
import { isNotFound, modalError } from "./modal-error.ts";
import type { Account } from "./sdk.ts";
import { encodedTags, type Label, labelOf, recordedCosts } from "./tags.ts";

const answerMs = 60_000;
/** of pages; more than any account has sandboxes */
const maxPages = 200;

type Tags = Readonly<Record<string, string>>;

/** Rejects when the server does not answer: what cannot be listed may be running. */
export async function listSandboxes(account: Account, owner: string, tags: Tags): Promise<SandboxRecord[]> {
  const app = await account.app();
  const wanted = { "modal-sb": "1", owner, ...encodedTags(tags) };
  const records = new Map<string, SandboxRecord>();
  try {
    let beforeTimestamp: number | undefined;
    for (let page = 0; page < maxPages; page++) {
      const found = await within(answerMs, "for the running sandboxes", () =>
        listPage(account, app.appId, wanted, beforeTimestamp),
      );
      if (found.length === 0) break;
      for (const info of found) {
        const label = labelOf(await tagsOfListed(account, info), owner);
        const record = label && recordOf(info, label);
        if (record && includesAll(record.tags, tags)) records.set(info.id, record);
      }
      beforeTimestamp = found.at(-1)?.createdAt;
    }
  } catch (error) {
    throw modalError(error, "list the running sandboxes");
  }
  return [...records.values()];
}

interface Listed {
  id: string;
  createdAt: number;
  tags: { tagName: string; tagValue: string }[];
}

/** The SDK's own listing keeps times and tags to itself, and would ask for them one by one. */
async function listPage(
  { client }: Account,
  appId: string,
  tags: Tags,
  beforeTimestamp: number | undefined,
): Promise<Listed[]> {
  const request = {
    appId,
    includeFinished: false,
    tags: Object.entries(tags).map(([tagName, tagValue]) => ({ tagName, tagValue })),
    ...(beforeTimestamp !== undefined && { beforeTimestamp }),
  };
  const { sandboxes } = client.profile.sandboxV2
    ? await client.cpClient.sandboxListV2(request)
    : await client.cpClient.sandboxList(request);
  return sandboxes;
}

async function tagsOfListed({ client }: Account, info: Listed): Promise<Tags> {
  if (info.tags.length > 0) return Object.fromEntries(info.tags.map(({ tagName, tagValue }) => [tagName, tagValue]));
  const sandbox = await client.sandboxes.fromId(info.id);
  return await within(answerMs, "for a sandbox's tags", () => sandbox.getTags());
}

function includesAll(tags: Tags, wanted: Tags): boolean {
  return Object.entries(wanted).every(([key, value]) => tags[key] === value);
}

function recordOf(info: Listed, label: Label): SandboxRecord {
  return {
    id: info.id,
    name: label.name,
    role: label.role,
    tags: { ...label.tags, host: label.host },
    // a label may have been written by somebody else
    startedAt: new Date(label.startedAtMs > 0 ? label.startedAtMs : info.createdAt * 1000).toISOString(),
    ...recordedCosts(label),
  };
}

/** The label that the server has for it; undefined when it is not this installation's, or there is no such sandbox. */
export async function labelAtServer(sandbox: SdkSandbox, owner: string): Promise<Label | undefined> {
  try {
    return labelOf(await within(answerMs, "for a sandbox's tags", () => sandbox.getTags()), owner);
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw modalError(error, "look at the sandbox's tags");
  }
}
