/** What the Hub knows of a Space. */
import { spaceInfo } from "@huggingface/hub";
import type { HubApi } from "./hub-api.ts";

export interface SpaceFacts {
  /** gradio, docker, static, … */
  sdk: string | undefined;
  tags: string[];
  /** the first part of its host's name */
  subdomain: string | undefined;
  /** e.g. RUNNING, SLEEPING, PAUSED, BUILDING */
  stage: string | undefined;
  /** "owner/name" of the bucket mounted at /data */
  bucketId: string | undefined;
}

interface Runtime {
  stage?: unknown;
  volumes?: unknown;
}

/** Undefined: there is none, or the token may not see it. Throws a HubError. */
export async function findSpace(hub: HubApi, spaceId: string): Promise<SpaceFacts | undefined> {
  const what = `see the Space ${spaceId}`;
  const found = await hub.attempt(what, () =>
    spaceInfo({ name: spaceId, additionalFields: ["tags", "runtime", "subdomain"], ...hub.parameters }),
  );
  if (!found) return undefined;
  const { sdk, tags, subdomain } = found;
  const runtime = (found.runtime ?? {}) as Runtime;
  let bucketId = bucketIn(runtime);
  if (bucketId === undefined) {
    // the one answer has the volumes at times, and the other at other times (trackio 0.43, deploy.py)
    const other = (await hub.request(what, "GET", `/api/spaces/${spaceId}/runtime`)) as Runtime | undefined;
    bucketId = bucketIn(other ?? {});
  }
  return {
    sdk: typeof sdk === "string" ? sdk : undefined,
    tags: Array.isArray(tags) ? tags.filter((tag) => typeof tag === "string") : [],
    subdomain: typeof subdomain === "string" ? subdomain : undefined,
    stage: typeof runtime.stage === "string" ? runtime.stage : undefined,
    bucketId,
  };
}

function bucketIn({ volumes }: Runtime): string | undefined {
  if (!Array.isArray(volumes)) return undefined;
  for (const { type, source, mountPath } of volumes as Record<string, unknown>[]) {
    const isBucket = type === "bucket" && mountPath === "/data";
    if (isBucket && typeof source === "string" && /^[\w.-]{1,96}\/[\w.-]{1,96}$/.test(source)) return source;
  }
  return undefined;
}
