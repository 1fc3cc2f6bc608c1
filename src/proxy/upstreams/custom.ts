/** An upstream that a user describes in a few lines of configuration. */
import type { Injection } from "../credentials.ts";
import { isPlainPath, isPlainQuery } from "../target.ts";
import { checkedOrigin, methodRefusal, pathRefusal, type Upstream, withQuery } from "./upstream.ts";

export interface CustomUpstream {
  name: string;
  /** e.g. "/weather"; the sandbox asks for /weather/v1/today, the upstream gets /v1/today */
  prefix: string;
  origin: string;
  /** name of the credential's file, and how it is carried; undefined: there is none */
  credential?: { name: string; injection: Injection };
  /** a path is exact, or ends with "/*" and stands for all below it */
  allow: readonly { methods: readonly string[]; path: string }[];
}

export function customUpstream(description: CustomUpstream): Upstream {
  const { name, prefix, origin, credential, allow } = description;
  const words = allow.map(({ methods, path }) => `${methods.join("/")} ${prefix}${path}`).join(", ");
  return {
    name,
    prefix,
    origin: checkedOrigin(origin),
    credential,
    style: "plain",
    requestHeaders: ["accept-language", "range", "if-none-match", "if-modified-since"],
    responseHeaders: ["etag", "last-modified", "accept-ranges", "content-range", "request-id", "x-request-id"],
    redirects: "refuse",
    maxBodyBytes: 32 * 1024 * 1024,
    takesEncodedBodies: false,
    decide({ method, path, query }) {
      if (!isPlainPath(path) || !isPlainQuery(query)) return pathRefusal(words);
      const fitting = allow.filter(({ path: pattern }) =>
        pattern.endsWith("/*") ? path.startsWith(pattern.slice(0, -1)) : path === pattern,
      );
      if (fitting.length === 0) return pathRefusal(words);
      if (!fitting.some(({ methods }) => methods.includes(method))) return methodRefusal(words);
      return { target: withQuery(path, query) };
    },
  };
}
