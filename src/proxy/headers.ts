/** Which headers pass, by name and in both directions. What is not listed stays behind. */
import type { IncomingHttpHeaders } from "node:http";
import { scrubText } from "./scrub.ts";
import type { Upstream } from "./upstreams/upstream.ts";

const requestHeaders = ["accept", "content-type", "user-agent"];
const responseHeaders = ["content-type", "content-length", "cache-control", "date", "retry-after"];

/** Name and value in turn, for the upstream, without the credential. */
export function headersForUpstream(headers: IncomingHttpHeaders, { requestHeaders: own }: Upstream): string[] {
  // answers must come as they are: a compressed one could not be scrubbed
  return ["accept-encoding", "identity", ...pick(headers, requestHeaders, own)];
}

/** Name and value in turn, for the sandbox; no value shows a credential, and links to the upstream lead to `publicOrigin`. */
export function headersForSandbox(
  headers: Readonly<IncomingHttpHeaders>,
  { responseHeaders: own, origin, prefix }: Upstream,
  needles: readonly Buffer[],
  publicOrigin: string,
): string[] {
  return pick(headers, responseHeaders, own).map((text) =>
    scrubText(text.replaceAll(`<${origin.origin}/`, `<${publicOrigin}${prefix}/`), needles),
  );
}

function pick(headers: Readonly<IncomingHttpHeaders>, common: readonly string[], own: readonly string[]): string[] {
  const picked: string[] = [];
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || !(common.includes(name) || own.some((pattern) => fits(pattern, name)))) continue;
    picked.push(name, Array.isArray(value) ? value.join(", ") : value);
  }
  return picked;
}

function fits(pattern: string, name: string): boolean {
  return pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}
