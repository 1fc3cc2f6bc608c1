/** The grants in force. Only hashes of tokens are kept; they are compared in constant time. */
import { hash, timingSafeEqual } from "node:crypto";
import type { Ending } from "./forward.ts";
import type { Grant, GrantChange } from "./grant.ts";
import type { Ledger } from "./ledger.ts";

/** A grant that is in force. */
export interface LiveGrant extends Grant {
  /** the ends of the requests that run on it; all are called when it ends */
  running: Set<(ending: Ending) => void>;
}

/** setTimeout's longest delay */
const maxTimerMs = 2 ** 31 - 1;
/** compared when there is no grant, so that the time tells nothing */
const noHash = Buffer.alloc(32);

interface Held {
  grant: LiveGrant;
  tokenHash: Buffer;
  timer: NodeJS.Timeout;
}

export class Grants {
  readonly #held = new Map<string, Held>();
  readonly #ledger: Ledger;

  /** Continues with the grants on file. */
  constructor(ledger: Ledger) {
    this.#ledger = ledger;
    for (const grant of ledger.grants()) {
      if (Date.now() < grant.expiresAt) this.#hold(grant, new Set());
      else ledger.removeGrant(grant.sandboxId);
    }
  }

  get count(): number {
    return this.#held.size;
  }

  /** Replaces an earlier grant of the sandbox, and ends what runs on it. */
  add(grant: Grant): void {
    this.revoke(grant.sandboxId);
    this.#hold(grant, new Set());
    this.#ledger.saveGrant(grant);
  }

  /** What runs goes on. Throws when the sandbox has no grant. */
  change(sandboxId: string, change: GrantChange): void {
    const held = this.#held.get(sandboxId);
    if (!held) throw new Error(`There is no grant for sandbox "${sandboxId}"`);
    clearTimeout(held.timer);
    const { running, ...before } = held.grant;
    const grant = { ...before, ...change };
    this.#hold(grant, running);
    this.#ledger.saveGrant(grant);
  }

  /** Ends the grant and the requests that run on it. */
  revoke(sandboxId: string): void {
    const held = this.#held.get(sandboxId);
    if (!held) return;
    this.#held.delete(sandboxId);
    clearTimeout(held.timer);
    for (const end of [...held.grant.running]) end("grant_ended");
    this.#ledger.removeGrant(sandboxId);
  }

  revokeAll(): void {
    for (const sandboxId of [...this.#held.keys()]) this.revoke(sandboxId);
  }

  /** The grant of that sandbox when `token` is its token and its time is not over. */
  find(sandboxId: string, token: string): LiveGrant | undefined {
    const held = this.#held.get(sandboxId);
    const fits = timingSafeEqual(hash("sha256", token, "buffer"), held?.tokenHash ?? noHash);
    return held && fits && this.isLive(held.grant) ? held.grant : undefined;
  }

  /** False once it was revoked or replaced, or has expired. */
  isLive({ sandboxId, running }: LiveGrant): boolean {
    const now = this.#held.get(sandboxId)?.grant;
    return now?.running === running && Date.now() < now.expiresAt;
  }

  /** Breaks off all that runs. */
  endAll(ending: Ending): void {
    for (const { grant } of this.#held.values()) for (const end of [...grant.running]) end(ending);
  }

  close(): void {
    for (const { timer } of this.#held.values()) clearTimeout(timer);
  }

  #hold(grant: Grant, running: LiveGrant["running"]): void {
    const delay = Math.min(Math.max(0, grant.expiresAt - Date.now()), maxTimerMs);
    const timer = setTimeout(() => this.#expire(grant.sandboxId), delay);
    timer.unref();
    this.#held.set(grant.sandboxId, {
      grant: { ...grant, running },
      tokenHash: Buffer.from(grant.tokenHash, "hex"),
      timer,
    });
  }

  #expire(sandboxId: string): void {
    const held = this.#held.get(sandboxId);
    if (!held) return;
    if (Date.now() >= held.grant.expiresAt) this.revoke(sandboxId);
    else this.#hold(held.grant, held.grant.running);
  }
}
