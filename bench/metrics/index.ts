/**
 * Area `metrics`: our syncer beside trackio's own ways to a server and the loop that one writes oneself, all of the same
 * trackio, in one run; and what the publisher costs the training that it copies. The receiver is the real trackio server,
 * self-hosted, on loopback, behind a port that counts what clients send (front.ts).
 *
 * - **Ours** is `src/syncer/main.ts` as a process, told by its control socket's events when rows have arrived. Its processor
 *   time is that of all threads of it and of its reader, to the nanosecond; its databases are replaced as the publisher does.
 * - **trackio sync_incremental** is `trackio.deploy.sync_incremental` as it is, but for the two calls that make a Space on the
 *   Hub and wait for it. `trackio.sync` uses it when it is given a dataset and no bucket. It reads and sends every row of the
 *   project each time, 500 in a request, and asks the server for each run's count. (`trackio sync --all` sends only rows
 *   that are marked as waiting for a Space; a run that logs to a folder alone marks none.)
 * - **trackio.sync to a bucket** is what `trackio.sync` does by default: `upload_project_to_bucket`, up to the call that uploads. "Sent" is
 *   the size of the files it hands over, the database here; the Hub's client may then leave out blocks that the Hub has,
 *   and its work, hashing above all, is not in the processor time.
 * - **Resending all** is the loop that sends every row through `bulk_log` when the file has changed (peers/resend-all.py). A look
 *   of it is measured; it would come every 30 seconds.
 *
 * The peers' processor time is their own process's during the call, without starting Python and loading trackio. Rows have
 * five values each; they are put into tables that trackio made. Everything is a median of rounds, in turns with the peers,
 * and the rows of each side are counted on the server.
 */
import { temporaryFolder } from "../../test/helpers/temporary-folder.ts";
import { installTrackio } from "../../test/syncer/trackio.ts";
import type { Figures } from "../measure.ts";
import { endOnSignals } from "../proxy/processes.ts";
import { backfill } from "./backfill.ts";
import { idle } from "./idle.ts";
import { increments } from "./increments.ts";
import { publication } from "./publication.ts";
import { prepare } from "./setting.ts";
import { trackioVersion } from "./versions.ts";

/** Runs the area; takes under four minutes. Throws when trackio cannot be installed. */
export async function benchMetrics(): Promise<Figures> {
  const reason = await installTrackio(trackioVersion);
  if (reason !== undefined) throw new Error(reason);
  await using folder = await temporaryFolder();
  using _signals = endOnSignals();
  await using setting = await prepare(folder.path);
  const { figures, project } = await backfill(setting);
  return {
    ...figures,
    ...(await increments(setting, project)),
    ...(await idle(setting, project)),
    ...(await publication(setting.empty, folder.path)),
  };
}
