/** An API behind the proxy: where it is, how its credential is carried, and what it takes of whom. */
import type { Reservation } from "../cost.ts";
import type { Injection } from "../credentials.ts";
import type { Grant } from "../grant.ts";
import type { Refusal, RefusalStyle } from "../refusal.ts";

/** A request as it came, below its upstream's prefix. */
export interface Asked {
  method: string;
  path: string;
  /** behind the question mark, "" when there is none */
  query: string;
  /** by lower-case name; one that came several times is joined by commas */
  header(name: string): string | undefined;
}

/** What a body turned out to ask for. */
export type Judgement = { refusal: Refusal } | { reservation?: Reservation; warning?: string };

export type Decision =
  | { refusal: Refusal }
  | {
      /** path and query for the upstream */
      target: string;
      /** reads the whole body before anything is sent; undefined: the body streams through, unread */
      judge?: (body: Buffer) => Judgement;
    };

export interface Upstream {
  /** as grants and the audit log name it */
  name: string;
  /** the beginning of its paths, e.g. "/github.com"; "" takes what no other takes */
  prefix: string;
  origin: URL;
  credential: { name: string; injection: Injection } | undefined;
  style: RefusalStyle;
  /** headers that pass beside those that pass for all; a `*` at the end stands for any ending */
  requestHeaders: readonly string[];
  responseHeaders: readonly string[];
  /** `pass`: the client may follow a redirect to another host by itself, without the credential */
  redirects: "refuse" | "pass";
  /** longest body, in bytes */
  maxBodyBytes: number;
  /** bodies may come compressed, because nobody looks into them */
  takesEncodedBodies: boolean;
  decide(asked: Asked, grant: Grant): Decision;
}

/** Over plain http a credential may travel on this machine only. */
export function checkedOrigin(origin: string): URL {
  const url = URL.canParse(origin) ? new URL(origin) : undefined;
  const isLoopback = ["127.0.0.1", "[::1]", "localhost"].includes(url?.hostname ?? "");
  if (url && (url.protocol === "https:" || (url.protocol === "http:" && isLoopback))) return url;
  throw new Error(`The upstream origin "${origin}" must be https, or http on loopback`);
}

/** The upstream that a path belongs to: the longest prefix wins. */
export function upstreamOf(upstreams: readonly Upstream[], path: string): Upstream | undefined {
  return upstreams
    .filter(({ prefix }) => prefix === "" || path === prefix || path.startsWith(`${prefix}/`))
    .sort((one, other) => other.prefix.length - one.prefix.length)[0];
}

export function withQuery(path: string, query: string): string {
  return query === "" ? path : `${path}?${query}`;
}

export function pathRefusal(allowed: string): { refusal: Refusal } {
  return {
    refusal: { reason: "path_not_allowed", message: `this path or query is not allowed; allowed are ${allowed}` },
  };
}

export function methodRefusal(allowed: string): { refusal: Refusal } {
  return {
    refusal: {
      reason: "method_not_allowed",
      message: `this method is not allowed on this path; allowed are ${allowed}`,
    },
  };
}
