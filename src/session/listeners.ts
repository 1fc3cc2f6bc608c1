import type { SessionEvent } from "./contract.ts";

/** a session that nobody listens to keeps so many */
const maxHeld = 10_000;

/** Who hears of a session. What happens before anybody listens is kept for the first: a takeover replays at once. */
export class Listeners {
  readonly #listeners = new Set<(event: SessionEvent) => void>();
  #held: SessionEvent[] | undefined = [];

  /** Returns the function that ends it. */
  add(listener: (event: SessionEvent) => void): () => void {
    this.#listeners.add(listener);
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const event of held) listener(event);
    return () => this.#listeners.delete(listener);
  }

  publish(event: SessionEvent): void {
    this.#held?.push(event);
    if (this.#held && this.#held.length > maxHeld) this.#held.shift();
    for (const listener of this.#listeners) listener(event);
  }
}
