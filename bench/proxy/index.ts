/**
 * Area `proxy`: the credential proxy beside its peers, all in one run on one machine, against upstreams on loopback.
 *
 * The machine needs two cores, taskset, npm, python3 with venv, and Debian's apt-get and dpkg. The peers are installed
 * in exact versions into `~/.cache/modal-sb-bench`; one that is not to be had is named on stderr and has no figure.
 *
 * - **Cores.** The proxy under test has core 0 alone; the load, the upstream and the benchmark itself share core 1.
 *   `direct` is the same load without a proxy, so core 0 is idle then. Only two proxies are alive at a time.
 * - **Requests a second** (throughput.ts): wrk, 50 kept connections, a request of 2 KB, an answer of 600 bytes from an
 *   nginx that answers at once. Each peer runs in turns with ours, and the ratio is the median of neighbours' ratios.
 *   Ours checks a sandbox's key, reads the answer for credentials and usage, and writes its audit line; LiteLLM checks
 *   its master key; the others set a key and pass on. Nobody else writes a log.
 * - **First byte** (latency.ts): 50 connections, an upstream that thinks for 100 ms and says how long it took to the
 *   microsecond, so that only the way there and back is left. `added` is ours less direct, of the same round.
 * - **Streams** (streams.ts): events that carry the time they were sent at, by the machine's monotonic clock, and a
 *   number, by which losses are seen. 1,000 streams of 50 events a second; fewer when those are not carried.
 * - **A large answer, refusals, interrupts** (edges.ts).
 *
 * Memory is the resident set of the proxy's process. Everything is a median of rounds, unless it says otherwise.
 */
import { temporaryFolder } from "../../test/helpers/temporary-folder.ts";
import type { Figures } from "../measure.ts";
import { edges } from "./edges.ts";
import { latency } from "./latency.ts";
import { endOnSignals, pinSelf } from "./processes.ts";
import { streams } from "./streams.ts";
import { throughput } from "./throughput.ts";
import { startPaced } from "./upstream/paced.ts";

/** Runs the area; takes about ten minutes. */
export async function benchProxy(): Promise<Figures> {
  await using folder = await temporaryFolder();
  using _signals = endOnSignals();
  using _pin = pinSelf();
  const requests = await throughput(folder.path);
  await using upstream = await startPaced(folder.path);
  return {
    ...requests,
    ...(await latency(upstream, folder.path)),
    ...(await streams(upstream, folder.path)),
    ...(await edges(upstream, folder.path)),
  };
}
