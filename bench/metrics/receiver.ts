/** The real trackio server, behind a port that counts. */
import { processes } from "../../test/helpers/processes.ts";
import { startTrackio } from "../../test/syncer/trackio.ts";
import { endWithUs } from "./children.ts";
import { type Front, startFront } from "./front.ts";
import { trackioVersion } from "./versions.ts";

export interface Receiver extends AsyncDisposable {
  front: Front;
  pid: number;
  /** rows that it has of a project */
  rows(project: string): Promise<number>;
}

/** `folder`: where its databases are, or will be. */
export async function startReceiver(folder: string): Promise<Receiver> {
  await using started = new AsyncDisposableStack();
  const server = started.use(await startTrackio(trackioVersion, "own", folder));
  const found = (await processes()).find(
    ({ command, environment }) => command.includes("trackio.show") && environment.includes(`TRACKIO_DIR=${folder}`),
  );
  if (!found) throw new Error("the server's process is not to be found");
  started.use(endWithUs(found.pid));
  const front = started.use(await startFront(server.address));
  const kept = started.move();
  return {
    front,
    pid: found.pid,
    async rows(project) {
      const answer = await server.call("query_project", { project, query: "SELECT COUNT(*) AS n FROM metrics" });
      return Number((answer as { rows: { n: number }[] }).rows[0]?.n);
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}
