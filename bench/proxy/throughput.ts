/**
 * Requests a second of a proxy whose core is full. Each peer runs in turns with ours, two seconds each, and the ratio is
 * taken of neighbours: on a shared machine the core's own speed changes from one second to the next.
 */
import { alternate, type Figures, figure, median } from "../measure.ts";
import { requestsPerSecond } from "./load/wrk.ts";
import { startOurs } from "./ours.ts";
import { startDirect } from "./peers/direct.ts";
import { startFastApi } from "./peers/fastapi.ts";
import { startFastify } from "./peers/fastify.ts";
import { startLiteLlm } from "./peers/litellm.ts";
import { startNginxPeer } from "./peers/nginx.ts";
import { startPortkey } from "./peers/portkey.ts";
import { processorSeconds } from "./processes.ts";
import { type Side, type StartSide, subfolder } from "./side.ts";
import { startAnswering } from "./upstream/answering.ts";

const rounds = 7;
const seconds = 2;
/** does not count: compilers and caches have to get warm */
const warmSeconds = 6;

interface Peer {
  start: StartSide;
  /** least ratio of ours to it */
  goal: number | null;
}

const peers: Record<string, Peer> = {
  direct: { start: startDirect, goal: null },
  nginx: { start: startNginxPeer, goal: 0.4 },
  "@fastify/http-proxy": { start: startFastify, goal: 1 },
  Portkey: { start: startPortkey, goal: 2 },
  FastAPI: { start: startFastApi, goal: 8 },
  LiteLLM: { start: startLiteLlm, goal: 20 },
};

interface Load {
  perSecond: number;
  /** share of its core that the proxy took, in percent */
  busy: number;
}

/** A peer that is not to be had is named on stderr and has no figure. */
export async function throughput(folder: string): Promise<Figures> {
  await using running = new AsyncDisposableStack();
  const { origin } = running.use(await startAnswering(folder));
  const ours = running.use(await startOurs(origin, subfolder(folder, "throughput-ours")));
  await loadOf(ours, warmSeconds, folder);
  const loads: Load[] = [];
  const figures: Figures = {};
  const ratios: Figures = {};
  for (const [name, { start, goal }] of Object.entries(peers)) {
    const peer = await startPeer(name, start, origin, folder);
    if (peer === undefined) continue;
    await using _peer = peer;
    await loadOf(peer, warmSeconds, folder);
    const { a, b } = await alternate(
      rounds,
      () => loadOf(ours, seconds, folder),
      () => loadOf(peer, seconds, folder),
    );
    loads.push(...a);
    Object.assign(figures, loadFigures(name, b));
    const ratio = median(a.map(({ perSecond }, index) => perSecond / (b[index]?.perSecond ?? Number.NaN)));
    if (goal !== null) ratios[`requests a second, ours ÷ ${name}`] = figure(ratio, "×", goal, "floor");
  }
  return { ...loadFigures("ours", loads), ...figures, ...ratios };
}

async function startPeer(name: string, start: StartSide, origin: string, folder: string): Promise<Side | undefined> {
  try {
    return await start(origin, subfolder(folder, name));
  } catch (error) {
    console.error(`missing: ${name}: ${error instanceof Error ? error.message : error}`);
    return undefined;
  }
}

async function loadOf(side: Side, duration: number, folder: string): Promise<Load> {
  const spent = () => (side.pid === null ? 0 : processorSeconds(side.pid));
  const [started, before] = [performance.now(), spent()];
  const perSecond = await requestsPerSecond(side, duration, folder);
  return { perSecond, busy: (100 * (spent() - before)) / ((performance.now() - started) / 1000) };
}

function loadFigures(name: string, loads: readonly Load[]): Figures {
  return {
    [`requests a second, ${name}`]: figure(median(loads.map(({ perSecond }) => perSecond)), "/s"),
    ...(name !== "direct" && {
      [`core in use, ${name}`]: figure(median(loads.map(({ busy }) => busy)), "%"),
    }),
  };
}
