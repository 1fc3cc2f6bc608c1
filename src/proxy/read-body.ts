/** A whole request body, up to a size and in bounded time. */
import type { IncomingMessage } from "node:http";
import type { Refusal } from "./refusal.ts";

/** The body, a refusal, or undefined when the client left. */
export function readBody(
  incoming: IncomingMessage,
  maxBytes: number,
  longestMs: number,
): Promise<Buffer | Refusal | undefined> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const finish = (result: Buffer | Refusal | undefined) => {
      clearTimeout(timer);
      incoming.off("data", take).off("end", end).off("close", leave);
      resolve(result);
    };
    const timer = setTimeout(
      () => finish({ reason: "bad_request", message: `the body did not come within ${longestMs / 1000} s` }),
      longestMs,
    );
    const take = (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > maxBytes) finish({ reason: "body_too_large", message: `a body may have ${maxBytes} bytes` });
      else chunks.push(chunk);
    };
    const end = () => finish(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks));
    const leave = () => finish(undefined);
    incoming.on("data", take).once("end", end).once("close", leave);
  });
}
