/** HTTP as this proxy takes it: what two readers could understand differently is refused before anything is judged. */
import type { IncomingMessage } from "node:http";
import type { Refusal } from "./refusal.ts";

/** Headers that may come once only. node joins or drops a second one, and the sandbox could mean either. */
const single = new Set(["authorization", "x-api-key", "host", "content-length", "content-type", "transfer-encoding"]);

export function malformationOf(incoming: IncomingMessage): Refusal | undefined {
  const { httpVersion, headers, rawHeaders, method } = incoming;
  if (httpVersion !== "1.1") return bad("HTTP/1.1 is spoken here");
  if (headers.upgrade !== undefined) return bad("there is nothing to upgrade to");
  const seen = new Set<string>();
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = (rawHeaders[at] as string).toLowerCase();
    if (!single.has(name)) continue;
    if (seen.has(name)) return bad(`the header ${name} comes twice`);
    seen.add(name);
  }
  const coding = headers["transfer-encoding"];
  if (coding !== undefined && (coding !== "chunked" || headers["content-length"] !== undefined)) {
    return bad("the length of the body is not clear");
  }
  const isBodyless = method === "GET" || method === "HEAD";
  if (isBodyless && (coding !== undefined || Number(headers["content-length"] ?? 0) > 0)) {
    return bad(`${method} has no body`);
  }
  return undefined;
}

function bad(message: string): Refusal {
  return { reason: "bad_request", message };
}
