/** The peers as processes that look when they are told to: what one look of theirs costs, without their start. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type PythonProcess, startPython } from "../../../test/syncer/python-process.ts";
import { writeToken } from "../../../test/syncer/trackio.ts";
import { trackioVersion } from "../versions.ts";

export interface Peers extends AsyncDisposable {
  /** trackio.deploy.sync_incremental */
  syncIncremental(project: string): Promise<PeerCost>;
  /** trackio.sync, as far as it goes without the Hub */
  uploadToBucket(project: string): Promise<PeerCost & { uploadedBytes: number }>;
  /** the loop that sends everything when the file has changed */
  resendAll(project: string): Promise<PeerCost>;
}

interface PeerCost {
  processorMs: number;
}

/** `folder`: trackio's, with a database for each project. `address`: the server's. */
export async function startPeers(folder: string, address: string): Promise<Peers> {
  await using started = new AsyncDisposableStack();
  const program = (name: string) => readFileSync(join(import.meta.dirname, name), "utf8");
  const trackio = started.use(startPython(trackioVersion, folder, program("trackio-sync.py")));
  const loop = started.use(startPython(trackioVersion, folder, program("resend-all.py")));
  const kept = started.move();
  const withToken = `${address}?write_token=${writeToken}`;
  const ask = async (python: PythonProcess, request: object) => {
    const answer = await python.ask(JSON.stringify({ ...request, address: withToken }));
    return JSON.parse(answer.slice("logged ".length)) as PeerCost & { uploadedBytes: number };
  };
  return {
    syncIncremental: (project) => ask(trackio, { way: "incremental", project }),
    uploadToBucket: (project) => ask(trackio, { way: "bucket", project }),
    resendAll: (project) => ask(loop, { database: join(folder, `${project}.db`), project }),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}
