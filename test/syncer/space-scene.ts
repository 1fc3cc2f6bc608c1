/** A Space at a double of the Hub, a folder of metrics, and a syncer between them. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { Secret } from "../../src/secret.ts";
import { ensureSpace } from "../../src/syncer/hub/ensure-space.ts";
import type { Syncer, SyncerOptions } from "../../src/syncer/syncer.ts";
import { freePort } from "../helpers/free-port.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { type HubDouble, startHubDouble } from "../hub/hub-double.ts";
import { startSpace } from "../hub/running-space.ts";
import { isInstalled, newest, syncerTo } from "./runs.ts";
import { hfToken, type RunningTrackio } from "./trackio.ts";

export const spaceId = "acme/metrics";
const bucketId = "acme/metrics-bucket";

export interface SpaceScene extends AsyncDisposable {
  local: string;
  hub: HubDouble;
  /** the Space's own databases */
  remote: string;
  statePath: string;
  port: number;
  start(): Promise<RunningTrackio>;
  syncer(changes?: Partial<SyncerOptions>): Syncer;
  /** names of the files that wait, without the seed */
  waiting(): string[];
}

/** A Space that was just made and does not run yet; undefined: there is no trackio here. */
export async function spaceScene(context: TestContext): Promise<SpaceScene | undefined> {
  if (!(await isInstalled(newest, context))) return undefined;
  const undo = new AsyncDisposableStack();
  const local = undo.use(await temporaryFolder()).path;
  const hubFolder = undo.use(await temporaryFolder()).path;
  const hub = undo.use(await startHubDouble({ folder: hubFolder, token: hfToken, owners: ["acme"] }));
  const token = new Secret(hfToken);
  await ensureSpace({ spaceId, token, create: "private", hubUrl: hub.url });
  const port = await freePort();
  const remote = join(hub.bucketFolder(bucketId), "trackio");
  const statePath = join(hubFolder, "state/sync.db");
  const spaceAddress = `http://127.0.0.1:${port}/`;
  return {
    ...{ local, hub, remote, statePath, port },
    start: () => startSpace(hub, spaceId, port),
    syncer: (changes) => {
      const toSpace = { server: undefined, spaces: [spaceId], hfToken: token, spaceAddress, hubUrl: hub.url };
      return syncerTo("", { folder: local, statePath }, { withMedia: false, ...toSpace, ...changes });
    },
    waiting: () => {
      const inbox = join(remote, "inbox");
      const writers = existsSync(inbox) ? readdirSync(inbox).filter((name) => name !== "modal-sb-welcome") : [];
      return writers.flatMap((writer) => readdirSync(join(inbox, writer)));
    },
    [Symbol.asyncDispose]: () => undo.disposeAsync(),
  };
}
