/** How long a destination that failed is left alone. */
const firstMs = 2000;
const longestMs = 300_000;

/** Twice as long after each failure, up to five minutes, and never the same for two at once. */
export class Backoff {
  #failures = 0;
  #until = 0;

  /** Milliseconds since 1970 before which nothing is tried; 0: now. */
  get until(): number {
    return this.#until;
  }

  /** `retryAfterMs`: as the server asked. */
  fail(now: number, retryAfterMs = 0): void {
    const waitMs = Math.min(longestMs, firstMs * 2 ** this.#failures);
    this.#failures += 1;
    this.#until = now + Math.max(retryAfterMs, waitMs * (0.75 + Math.random() / 2));
  }

  succeed(): void {
    this.#failures = 0;
    this.#until = 0;
  }
}
