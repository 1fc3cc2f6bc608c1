/** Who is asking: the sandbox key `<sandbox id>.<token>` in any of the places where clients of an API put a key. */
import type { IncomingHttpHeaders } from "node:http";

export interface SandboxKey {
  sandboxId: string;
  token: string;
}

/** Whether the request shows any key at all, good or bad. */
export function hasKey(headers: IncomingHttpHeaders): boolean {
  return headers["x-api-key"] !== undefined || headers.authorization !== undefined;
}

/** The key, or undefined when there is none, it has not this shape, or two headers disagree. */
export function sandboxKeyOf(headers: IncomingHttpHeaders): SandboxKey | undefined {
  const keys = [headers["x-api-key"], authorizationKey(headers.authorization)].filter((key) => key !== undefined);
  const [key, other = key] = keys;
  if (typeof key !== "string" || key !== other) return undefined;
  const [, sandboxId, token] = /^([A-Za-z0-9_-]{1,128})\.([A-Za-z0-9_-]{16,256})$/.exec(key) ?? [];
  return sandboxId === undefined || token === undefined ? undefined : { sandboxId, token };
}

/** The bearer token, `token` as gh says it, or the password of Basic, as git does. Another kind counts as a bad key. */
function authorizationKey(authorization: string | undefined): string | undefined {
  if (authorization === undefined) return undefined;
  const [, scheme = "", value = ""] = /^(\S+) +(\S+)$/.exec(authorization) ?? [];
  switch (scheme.toLowerCase()) {
    case "bearer":
    case "token":
      return value;
    case "basic": {
      const pair = Buffer.from(value, "base64").toString("utf8");
      return pair.slice(pair.indexOf(":") + 1);
    }
    default:
      return "";
  }
}
