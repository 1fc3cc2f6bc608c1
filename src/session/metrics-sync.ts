/** The syncer of a session, from its start to the last row: it outlives the agent's sandboxes, and is made anew when it ends. */
import { setTimeout } from "node:timers/promises";
import { messageOf } from "../errors.ts";
import type { SyncSummary } from "../syncer/sync-summary.ts";
import { lastWords } from "./last-words.ts";
import { type SyncerParts, type SyncerRole, startSyncerRole } from "./syncer-role.ts";

/** before a syncer that ended is made anew; doubled each time that it has not lived for a minute */
const restartMs = 5000;
const longestRestartMs = 5 * 60_000;
const healthyMs = 60_000;
/** a destination that fails is tried again for so long, at the end */
const drainMs = 5000;
/** and rows that are going out may take so long */
const longestMs = 60_000;

export interface MetricsSyncEvents {
  onSummary(summary: SyncSummary): void;
  onProblem(words: string): void;
}

export class MetricsSync implements AsyncDisposable {
  readonly #parts: SyncerParts;
  readonly #events: MetricsSyncEvents;
  readonly #abort = new AbortController();
  readonly #kept: Promise<void>;
  /** the syncer that runs or is being started; undefined: the session did not come to be */
  #role: Promise<SyncerRole | undefined>;

  /** Starts when `ready` has resolved: a session does not wait for its metrics, and its first turn goes before them. */
  constructor(parts: SyncerParts, events: MetricsSyncEvents, ready: Promise<void>) {
    this.#parts = parts;
    this.#events = events;
    this.#role = ready.then(
      () => this.#start(),
      () => undefined,
    );
    this.#kept = this.#keep();
  }

  /** Sends what is left, as far as that goes, and says what does not; then ends the syncer. */
  async finish(): Promise<void> {
    const { onSummary, onProblem } = this.#events;
    try {
      const isLate = setTimeout(longestMs, "late" as const, { ref: false });
      const summary = await Promise.race([this.#role.then((role) => role?.drain(drainMs)), isLate]);
      if (summary === "late") throw new Error("the time was up");
      if (summary) onSummary(summary);
      const { waiting = 0, errors = [] } = summary ?? {};
      if (waiting > 0 || errors.length > 0) onProblem(leftWords(waiting, errors));
    } catch (error) {
      onProblem(leftWords(0, [messageOf(error)]));
    }
    await this[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.#kept;
  }

  #start(): Promise<SyncerRole> {
    return startSyncerRole(this.#parts, this.#events.onSummary, this.#abort.signal);
  }

  async #keep(): Promise<void> {
    const { signal } = this.#abort;
    const aborted = new Promise<undefined>((resolve) => signal.addEventListener("abort", () => resolve(undefined)));
    let pauseMs = restartMs;
    let told = "";
    const tell = (words: string) => {
      if (words !== told) this.#events.onProblem(words);
      told = words;
    };
    while (!signal.aborted) {
      const startedAt = Date.now();
      try {
        const { sandbox } = (await this.#role) ?? {};
        if (!sandbox) return;
        const end = await Promise.race([sandbox.exited, aborted]);
        if (end) tell(`The syncer of metrics ended, and is started again: ${lastWords(end) || end.message}`);
        await sandbox.terminate({ graceMs: 1000 });
      } catch (error) {
        if (!signal.aborted) tell(`The syncer of metrics cannot be started: ${messageOf(error)}`);
      }
      await setTimeout(pauseMs, undefined, { signal }).catch(() => {});
      pauseMs = Date.now() - startedAt - pauseMs > healthyMs ? restartMs : Math.min(2 * pauseMs, longestRestartMs);
      if (signal.aborted) return;
      this.#role = this.#start();
      this.#role.catch(() => {});
    }
  }
}

function leftWords(waiting: number, errors: readonly string[]): string {
  const rows = waiting > 0 ? `About ${waiting} rows of metrics were not sent` : "Not all metrics were sent";
  return `${rows} (${errors[0] ?? "the destination was slow"}). They are kept, and go out when the session is opened again`;
}
