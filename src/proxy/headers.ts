/** Which headers pass, by name and in both directions. What is not listed stays behind. */
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from "node:http";

const requestHeaders = new Set([
  "accept",
  "content-type",
  "content-length",
  "user-agent",
  "anthropic-version",
  "anthropic-beta",
  "anthropic-dangerous-direct-browser-access",
  "x-app",
  "x-claude-code-session-id",
  "x-claude-code-agent-id",
]);
const requestPrefixes = ["x-stainless-"];

const responseHeaders = new Set([
  "content-type",
  "content-length",
  "cache-control",
  "date",
  "request-id",
  "retry-after",
  "retry-after-ms",
  "x-should-retry",
]);
const responsePrefixes = ["anthropic-ratelimit-"];

/** For the upstream, without the credential. Answers must come as they are: a compressed one could not be scrubbed. */
export function upstreamHeaders(headers: IncomingHttpHeaders, host: string): OutgoingHttpHeaders {
  return { ...pick(headers, requestHeaders, requestPrefixes), host, "accept-encoding": "identity" };
}

/** For the sandbox; `scrub` takes credentials out of the values. */
export function sandboxHeaders(headers: IncomingHttpHeaders, scrub: (value: string) => string): OutgoingHttpHeaders {
  const picked = pick(headers, responseHeaders, responsePrefixes);
  return Object.fromEntries(Object.entries(picked).map(([name, value]) => [name, scrub(String(value))]));
}

function pick(headers: IncomingHttpHeaders, names: ReadonlySet<string>, prefixes: readonly string[]) {
  const entries = Object.entries(headers).filter(
    ([name, value]) => value !== undefined && (names.has(name) || prefixes.some((prefix) => name.startsWith(prefix))),
  );
  return Object.fromEntries(entries) as OutgoingHttpHeaders;
}
