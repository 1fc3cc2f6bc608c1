/** Signals that end modal-sb after it has cleaned up, and the exit codes by which shells count them. */
export const endingSignals = { SIGTERM: 143, SIGHUP: 129 } as const;

export class StoppedBySignal extends Error {
  readonly exitCode: number;
  /** the terminal is gone, and nobody has asked for an end */
  readonly isHangUp: boolean;

  constructor(signal: keyof typeof endingSignals) {
    super("stopped by a signal");
    this.exitCode = endingSignals[signal];
    this.isHangUp = signal === "SIGHUP";
  }
}
