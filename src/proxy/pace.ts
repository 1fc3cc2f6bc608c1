/** How often and how many at once: a token bucket and a count, for each account. */
import type { Limits } from "./grant.ts";
import type { Refusal } from "./refusal.ts";

const minute = 60_000;

interface Bucket {
  /** requests that may begin now */
  left: number;
  /** milliseconds, when `left` was true */
  at: number;
}

export class Pace {
  readonly #buckets = new Map<string, Bucket>();
  readonly #running = new Map<string, number>();
  readonly #now: () => number;
  #idle: PromiseWithResolvers<void> | undefined;

  /** `now`: milliseconds that never go back. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Takes a place for a request, or says when to try again. {@link leave} gives it back. */
  enter(account: string, { requestsPerMinute, concurrentRequests }: Limits): Refusal | undefined {
    const running = this.#running.get(account) ?? 0;
    if (concurrentRequests !== undefined && running >= concurrentRequests) {
      const message = `${running} requests run at once, which is the limit; wait for one to end`;
      return { reason: "too_many_streams", message, retryAfter: 1 };
    }
    if (requestsPerMinute !== undefined) {
      const bucket = this.#filled(account, requestsPerMinute);
      if (bucket.left < 1) {
        const retryAfter = Math.max(
          1,
          Math.ceil(((1 - bucket.left) * minute) / Math.max(requestsPerMinute, 1e-9) / 1000),
        );
        const message = `${requestsPerMinute} requests a minute are the limit; try again in ${retryAfter} s`;
        return { reason: "rate_limited", message, retryAfter: Math.min(retryAfter, 3600) };
      }
      bucket.left -= 1;
    }
    this.#running.set(account, running + 1);
    return undefined;
  }

  leave(account: string): void {
    const running = (this.#running.get(account) ?? 1) - 1;
    if (running > 0) this.#running.set(account, running);
    else this.#running.delete(account);
    if (this.#running.size === 0) this.#idle?.resolve();
  }

  /** Resolves when nothing runs, or after `deadlineMs`. */
  async idle(deadlineMs: number): Promise<void> {
    if (this.#running.size === 0) return;
    this.#idle ??= Promise.withResolvers();
    const deadline = setTimeout(this.#idle.resolve, deadlineMs);
    await this.#idle.promise;
    clearTimeout(deadline);
  }

  runningOf(account: string): number {
    return this.#running.get(account) ?? 0;
  }

  #filled(account: string, requestsPerMinute: number): Bucket {
    const now = this.#now();
    const bucket = this.#buckets.get(account) ?? { left: requestsPerMinute, at: now };
    bucket.left = Math.min(requestsPerMinute, bucket.left + ((now - bucket.at) * requestsPerMinute) / minute);
    bucket.at = now;
    this.#buckets.set(account, bucket);
    return bucket;
  }
}
