/** How long each side may take, in milliseconds. */
export interface Timeouts {
  /** to reach an upstream */
  connectMs: number;
  /** the upstream's longest silence, before an answer and within it */
  silenceMs: number;
  /** for a client to finish its headers */
  headersMs: number;
  /** for a client to finish a body that is judged; whoever needs longer holds a place that others could use */
  bodyMs: number;
  /** for a client to take what there is to take */
  stalledMs: number;
  /** no request runs longer */
  totalMs: number;
}

/** A thinking model may be silent for ten minutes, and a stream may run for more than thirty. */
export const defaultTimeouts: Timeouts = {
  connectMs: 10_000,
  silenceMs: 660_000,
  headersMs: 15_000,
  bodyMs: 60_000,
  stalledMs: 120_000,
  totalMs: 2 * 3_600_000,
};
