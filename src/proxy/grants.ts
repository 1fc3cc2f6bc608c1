/** What each sandbox may use and until when. Only hashes of tokens are kept; they are compared in constant time. */
import { createHash, timingSafeEqual } from "node:crypto";

export interface Grant {
  sandboxId: string;
  /** SHA-256 of the token, 64 hex digits */
  tokenHash: string;
  /** milliseconds since 1970 */
  expiresAt: number;
  upstreams: readonly string[];
}

/** A grant that is in force; `ended` fires when it expires or is revoked. */
export interface LiveGrant extends Grant {
  ended: AbortSignal;
}

/** setTimeout's longest delay */
const maxTimerMs = 2 ** 31 - 1;
/** compared when there is no grant, so that the time tells nothing */
const noHash = Buffer.alloc(32);

export class Grants {
  readonly #grants = new Map<string, { grant: LiveGrant; end: () => void }>();

  get count(): number {
    return this.#grants.size;
  }

  /** Replaces an earlier grant of the sandbox. */
  add(grant: Grant): void {
    this.revoke(grant.sandboxId);
    const controller = new AbortController();
    const delay = Math.min(Math.max(0, grant.expiresAt - Date.now()), maxTimerMs);
    const timer = setTimeout(() => this.#expire(grant), delay);
    timer.unref();
    this.#grants.set(grant.sandboxId, {
      grant: { ...grant, ended: controller.signal },
      end: () => {
        clearTimeout(timer);
        controller.abort();
      },
    });
  }

  /** Ends the grant and the requests that run on it. */
  revoke(sandboxId: string): void {
    const found = this.#grants.get(sandboxId);
    this.#grants.delete(sandboxId);
    found?.end();
  }

  /** The grant of that sandbox when `token` is its token and its time is not over. */
  find(sandboxId: string, token: string): LiveGrant | undefined {
    const grant = this.#grants.get(sandboxId)?.grant;
    const hash = createHash("sha256").update(token).digest();
    const fits = timingSafeEqual(hash, grant ? Buffer.from(grant.tokenHash, "hex") : noHash);
    return grant && fits && Date.now() < grant.expiresAt ? grant : undefined;
  }

  #expire(grant: Grant): void {
    if (Date.now() >= grant.expiresAt) this.revoke(grant.sandboxId);
    else this.add(grant);
  }
}
