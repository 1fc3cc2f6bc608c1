/** An API behind the proxy: where it is, what it takes, and how its credential is carried. */
import type { Credential } from "./credentials.ts";
import { anthropicRules, type Rule } from "./policy.ts";

export interface Upstream {
  name: string;
  origin: URL;
  rules: readonly Rule[];
  credential: Credential;
}

export function anthropicUpstream(origin: string, credential: Credential): Upstream {
  return { name: "anthropic", origin: checkedOrigin(origin), rules: anthropicRules, credential };
}

/** Over plain http a credential may travel on this machine only. */
function checkedOrigin(origin: string): URL {
  const url = URL.canParse(origin) ? new URL(origin) : undefined;
  const isLoopback = ["127.0.0.1", "[::1]", "localhost"].includes(url?.hostname ?? "");
  if (url && (url.protocol === "https:" || (url.protocol === "http:" && isLoopback))) return url;
  throw new Error(`The upstream origin "${origin}" must be https, or http on loopback`);
}
