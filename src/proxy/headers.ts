/** Which headers pass, by name and in both directions. What is not listed stays behind. */
import type { IncomingHttpHeaders } from "node:http";
import { scrubText } from "./scrub.ts";
import type { Upstream } from "./upstreams/upstream.ts";

const requestHeaders = ["accept", "content-type", "user-agent"];
const responseHeaders = ["content-type", "content-length", "cache-control", "date", "retry-after"];

/** Name and value in turn, for the upstream, without the credential. */
export function headersForUpstream(headers: IncomingHttpHeaders, upstream: Upstream): string[] {
  // answers must come as they are: a compressed one could not be scrubbed
  const picked = ["accept-encoding", "identity"];
  pickInto(picked, headers, listOf(upstream).request);
  return picked;
}

/** Name and value in turn, for the sandbox; no value shows a credential, and links to the upstream lead to `publicOrigin`. */
export function headersForSandbox(
  headers: Readonly<IncomingHttpHeaders>,
  upstream: Upstream,
  needles: readonly Buffer[],
  publicOrigin: string,
): string[] {
  const picked: string[] = [];
  pickInto(picked, headers, listOf(upstream).response);
  for (let at = 1; at < picked.length; at += 2) {
    const value = picked[at] as string;
    const led =
      picked[at - 1] === "link"
        ? value.replaceAll(`<${upstream.origin.origin}/`, `<${publicOrigin}${upstream.prefix}/`)
        : value;
    picked[at] = scrubText(led, needles);
  }
  return picked;
}

function pickInto(picked: string[], headers: Readonly<IncomingHttpHeaders>, list: AllowList): void {
  for (const name in headers) {
    if (!list.has(name)) continue;
    const value = headers[name];
    if (value !== undefined) picked.push(name, Array.isArray(value) ? value.join(", ") : value);
  }
}

/** Names, and beginnings of names; made once for each upstream, because every request asks. */
class AllowList {
  readonly #names: ReadonlySet<string>;
  readonly #beginnings: readonly string[];

  constructor(patterns: readonly string[]) {
    this.#names = new Set(patterns);
    this.#beginnings = patterns.filter((pattern) => pattern.endsWith("*")).map((pattern) => pattern.slice(0, -1));
  }

  has(name: string): boolean {
    return this.#names.has(name) || this.#beginnings.some((beginning) => name.startsWith(beginning));
  }
}

const lists = new WeakMap<Upstream, { request: AllowList; response: AllowList }>();

function listOf(upstream: Upstream): { request: AllowList; response: AllowList } {
  let list = lists.get(upstream);
  if (!list) {
    list = {
      request: new AllowList([...requestHeaders, ...upstream.requestHeaders]),
      response: new AllowList([...responseHeaders, ...upstream.responseHeaders]),
    };
    lists.set(upstream, list);
  }
  return list;
}
