import type { IncomingHttpHeaders, IncomingMessage } from "node:http";

/** How an exchange ended: all was sent, or the client left before, or the script broke it off. */
export type Outcome = "answered" | "abandoned" | "died";

export interface RecordedRequest {
  method: string;
  /** without the query */
  path: string;
  /** without the `?`, empty when there is none */
  query: string;
  headers: IncomingHttpHeaders;
  /** parsed JSON, undefined when there was none */
  body: unknown;
  /** milliseconds since 1970 when the body was complete */
  at: number;
  /** settles when nothing more will be sent */
  ended: Promise<Outcome>;
}

/** the API's own limit */
const maxBodyBytes = 32 * 1024 * 1024;

/** Reads a request to its end; undefined when its body is too large. Rejects when the client leaves before. */
export async function readRequest(
  incoming: IncomingMessage,
  ended: Promise<Outcome>,
): Promise<RecordedRequest | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of incoming) {
    bytes += chunk.length;
    if (bytes <= maxBodyBytes) chunks.push(chunk);
  }
  if (bytes > maxBodyBytes) return undefined;
  const [path = "", query = ""] = (incoming.url ?? "").split("?", 2);
  return {
    method: incoming.method ?? "",
    path,
    query,
    headers: incoming.headers,
    body: parseJson(Buffer.concat(chunks).toString()),
    at: Date.now(),
    ended,
  };
}

/** The key that the request shows, in either of the two headers that the API knows. */
export function keyOf({ headers }: RecordedRequest): string | undefined {
  const key = headers["x-api-key"];
  return typeof key === "string" ? key : headers.authorization?.replace(/^Bearer /, "");
}

function parseJson(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    // empty or not JSON: recorded as no body
    return undefined;
  }
}
