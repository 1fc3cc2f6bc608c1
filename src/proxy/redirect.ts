/** Where a client may be sent. It follows by itself, and without the credential. */
import type { Upstream } from "./upstreams/upstream.ts";

/**
 * The Location for the sandbox; undefined when the redirect must not pass. One that stays with the upstream leads back
 * through the proxy, where it is judged like any request; another must be https.
 */
export function redirectFor(
  location: string | string[] | undefined,
  upstream: Upstream,
  target: string,
): string | undefined {
  if (upstream.redirects !== "pass" || typeof location !== "string") return undefined;
  const from = new URL(target, upstream.origin);
  if (!URL.canParse(location, from.href)) return undefined;
  const to = new URL(location, from);
  if (to.origin === upstream.origin.origin) return `${upstream.prefix}${to.pathname}${to.search}`;
  const isLoopback = ["127.0.0.1", "[::1]", "localhost"].includes(upstream.origin.hostname);
  // a hub on this machine, as tests and mirrors have it, may send to another one
  return to.protocol === "https:" || (isLoopback && to.protocol === "http:") ? to.href : undefined;
}
