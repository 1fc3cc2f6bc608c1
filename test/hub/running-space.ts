/** The real trackio as a Space of the double of the Hub: with its variables, and its bucket where the mount would be. */
import { join } from "node:path";
import { newest } from "../syncer/runs.ts";
import { type RunningTrackio, startTrackio } from "../syncer/trackio.ts";
import type { HubDouble } from "./hub-double.ts";

/** `port`: the same again, so that a Space that starts anew is found. */
export async function startSpace(hub: HubDouble, spaceId: string, port?: number): Promise<RunningTrackio> {
  const space = hub.spaces.get(spaceId);
  const bucketId = space?.volumes.find(({ mountPath }) => mountPath === "/data")?.source;
  if (!space || bucketId === undefined) throw new Error(`the Space ${spaceId} has no bucket`);
  const folder = join(hub.bucketFolder(bucketId), "trackio");
  const running = await startTrackio(newest, "space", folder, port, {
    ...space.variables,
    ...{ TRACKIO_DIR: folder, HF_ENDPOINT: hub.url, HF_HUB_OFFLINE: "0", HF_HUB_DISABLE_TELEMETRY: "1" },
    // a Space that we make holds no token: callers are checked with the Hub
    HF_TOKEN: undefined,
  });
  space.stage = "RUNNING";
  return running;
}
