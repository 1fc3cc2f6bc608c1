/** The Space that a session's metrics go to: looked for, or made, before they do; again after a while when that failed. */
import { Backoff } from "./backoff.ts";
import { isTrackio } from "./destinations.ts";
import { ensureSpace } from "./hub/ensure-space.ts";
import { HubError } from "./hub/hub-error.ts";
import type { SyncerOptions } from "./syncer.ts";
import type { SyncerConfig } from "./syncer-config.ts";

export class WantedSpace {
  readonly #rules: SyncerConfig & SyncerOptions;
  readonly #spaceId: string | undefined;
  readonly #backoff = new Backoff();
  #isThere = false;
  /** why it is not there, in words */
  error: string | undefined;

  constructor(rules: SyncerConfig & SyncerOptions) {
    this.#rules = rules;
    this.#spaceId = rules.server === undefined ? rules.spaces.find((space) => !space.endsWith("/*")) : undefined;
  }

  /** Does nothing once it is there. */
  async ensure(): Promise<void> {
    const { hfToken: token, hubUrl, createSpace: create } = this.#rules;
    const spaceId = this.#spaceId;
    if (this.#isThere || spaceId === undefined || !token || Date.now() < this.#backoff.until) return;
    try {
      await ensureSpace({ spaceId, token, hubUrl, create, answers: () => isTrackio(spaceId, this.#rules) });
      this.#isThere = true;
      this.error = undefined;
    } catch (error) {
      if (!(error instanceof HubError)) throw error;
      this.#backoff.fail(Date.now());
      const isMissing = error.status === 404 && create === undefined;
      const hint = isMissing ? `--metrics ${spaceId}:create makes it` : error.hint;
      this.error = hint === undefined ? error.message : `${error.message} (${hint})`;
    }
  }
}
