/** What can be made to go wrong; all off at first. Numbers named as counts are used up, one a call. */
export interface Faults {
  /** how long a GPU sandbox stays queued */
  gpuQueueMs: number;
  /** GPU types that stay queued for ever */
  gpuNeverFree: string[];
  /** GPU sandboxes end before they start, with this in their result */
  noCapacity: boolean;
  /** creates that happen, and whose answer is UNAVAILABLE */
  loseCreateResponse: number;
  /** both backends */
  createDelayMs: number;
  /** V1 logs hold items without data: first, and between others */
  emptyLogItems: boolean;
  /** streams of output that break off with UNAVAILABLE after a piece of it */
  resetStreams: number;
  /** calls of the command router answered UNAUTHENTICATED */
  routerTokenExpires: number;
  /** connections to each sandbox's tunnels that are closed at once, before any other fault */
  tunnelNotReady: number;
  /** connections to each sandbox's tunnels that get a 502 */
  tunnel502: number;
  /** connections to tunnels get no answer at all */
  tunnelSilent: boolean;
  /** image builds that are not cached fail with this */
  buildFails: string | undefined;
  /** unary calls of the control plane answered RESOURCE_EXHAUSTED with a time to wait */
  throttle: number;
  /** reloads of volumes answered as if a file were open */
  reloadBusy: number;
  /** output of a V2 main process that is kept for readers, bytes */
  stdioRetainedBytes: number;
}

export function noFaults(): Faults {
  return {
    gpuQueueMs: 0,
    gpuNeverFree: [],
    noCapacity: false,
    loseCreateResponse: 0,
    createDelayMs: 0,
    emptyLogItems: false,
    resetStreams: 0,
    routerTokenExpires: 0,
    tunnelNotReady: 0,
    tunnel502: 0,
    tunnelSilent: false,
    buildFails: undefined,
    throttle: 0,
    reloadBusy: 0,
    stdioRetainedBytes: 4 * 1024 * 1024,
  };
}

type Count = "loseCreateResponse" | "resetStreams" | "routerTokenExpires" | "throttle" | "reloadBusy";

/** Uses one up; false when there is none left. */
export function take(faults: Faults, name: Count): boolean {
  if (faults[name] <= 0) return false;
  faults[name]--;
  return true;
}
