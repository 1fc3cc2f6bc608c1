/** Connections to the upstreams, by undici: kept open between requests, one request at a time on each. */
import { createRequire } from "node:module";
import type { Dispatcher, Pool } from "undici";
import type { Timeouts } from "./timeouts.ts";

// the package's front door also loads fetch, WebSocket and caches: a tenth of a second at each start, and none is used
const PoolOfConnections = createRequire(import.meta.url)("undici/lib/dispatcher/pool.js") as typeof Pool;

/** an edge that closes sooner says so in its Keep-Alive header, which is obeyed */
const keepAliveMs = 30_000;
const maxConnections = 4096;
const maxHeaderBytes = 64 * 1024;

export class Connections {
  readonly #pools = new Map<string, Pool>();
  readonly #timeouts: Timeouts;

  constructor(timeouts: Timeouts) {
    this.#timeouts = timeouts;
  }

  /** Sends a request to the origin; redirects are not followed, and nothing is tried twice. */
  dispatch(origin: URL, options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): void {
    let pool = this.#pools.get(origin.origin);
    if (!pool) {
      pool = new PoolOfConnections(origin.origin, {
        connections: maxConnections,
        pipelining: 1,
        allowH2: false,
        headersTimeout: this.#timeouts.silenceMs,
        bodyTimeout: this.#timeouts.silenceMs,
        connect: { timeout: this.#timeouts.connectMs },
        keepAliveTimeout: keepAliveMs,
        maxHeaderSize: maxHeaderBytes,
      });
      this.#pools.set(origin.origin, pool);
    }
    pool.dispatch(options, handler);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#pools.values()].map((pool) => pool.destroy()));
  }
}
