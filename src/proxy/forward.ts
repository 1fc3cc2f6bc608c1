/** One request's way to its upstream and back: streamed both ways, never buffered, never tried twice. */
import { Agent as HttpAgent, type IncomingMessage, request as requestHttp, type ServerResponse } from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import { pipeline } from "node:stream/promises";
import type { AuditEntry } from "./audit.ts";
import { sandboxHeaders, upstreamHeaders } from "./headers.ts";
import { type Reason, refusals, sendRefusal } from "./refusal.ts";
import { Scrubber, scrubText } from "./scrub.ts";
import type { Upstream } from "./upstream.ts";
import { UsageMeter } from "./usage-meter.ts";

/** an upstream that says nothing for so long is given up; a thinking model sends pings */
const silenceMs = 600_000;

const agents = { "http:": new HttpAgent({ keepAlive: true }), "https:": new HttpsAgent({ keepAlive: true }) };

export type Outcome = Pick<
  AuditEntry,
  | "status"
  | "reason"
  | "model"
  | "bytesIn"
  | "bytesOut"
  | "inputTokens"
  | "outputTokens"
  | "cacheReadTokens"
  | "cacheWriteTokens"
> & {
  /** true when the upstream did not take the credential */
  credentialRefused: boolean;
};

/** Resolves when both sides are done with the request; `ended` is the grant's end. */
export async function forward(
  incoming: IncomingMessage,
  response: ServerResponse,
  upstream: Upstream,
  ended: AbortSignal,
): Promise<Outcome> {
  const { origin } = upstream;
  const needles = upstream.credential.forms;
  const [credentialHeader, credential] = upstream.credential.header();
  const isSecure = origin.protocol === "https:";
  const outgoing = (isSecure ? requestHttps : requestHttp)({
    hostname: origin.hostname.replace(/^\[|\]$/g, ""),
    port: origin.port || (isSecure ? 443 : 80),
    method: incoming.method,
    path: incoming.url,
    agent: agents[isSecure ? "https:" : "http:"],
    // the credential comes last, so that no header of the sandbox can stand in its place
    headers: { ...upstreamHeaders(incoming.headers, origin.host), [credentialHeader]: credential },
  });
  outgoing.setTimeout(silenceMs, () => outgoing.destroy(new Error("no answer")));

  let bytesIn = 0;
  let bytesOut = 0;
  let meter = new UsageMeter(undefined);
  // who broke the exchange off: the first to leave, because each one's leaving makes the other leave
  let leaver: Outcome["reason"] = null;
  response.once("close", () => {
    if (!response.writableFinished) leaver ??= "client_gone";
    outgoing.destroy();
  });
  const onEnd = () => {
    leaver ??= "grant_ended";
    outgoing.destroy();
    response.destroy();
  };
  ended.addEventListener("abort", onEnd, { once: true });
  const outcome = (status: number, reason: Outcome["reason"]): Outcome => ({
    status,
    reason: leaver ?? reason,
    model: meter.model,
    ...meter.tokens,
    bytesIn,
    bytesOut,
    credentialRefused: status === 401 || (status === 403 && reason === null),
  });
  const refuse = (reason: Reason, message: string): Outcome => {
    outgoing.destroy();
    sendRefusal(response, { reason, message });
    return outcome(refusals[reason].status, reason);
  };

  try {
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      outgoing.once("response", resolve);
      outgoing.once("error", reject);
    });
    // an upstream may answer before it has read all; then the rest of the body does not matter
    pipeline(incoming, outgoing).catch(() => {});
    incoming.on("data", (chunk: Buffer) => {
      bytesIn += chunk.length;
    });
    const answer = await answered.catch((error: NodeJS.ErrnoException) => error);
    if (answer instanceof Error) {
      const code = answer.code ?? answer.message;
      return refuse("upstream_unreachable", `${origin.hostname} cannot be reached (${code})`);
    }
    const status = answer.statusCode ?? 502;
    if (status >= 300 && status < 400)
      return refuse("upstream_redirect", `${origin.hostname} answered with a redirect`);
    const encoding = answer.headers["content-encoding"] ?? "identity";
    if (encoding !== "identity") return refuse("upstream_encoded", `${origin.hostname} answered in ${encoding}`);
    meter = new UsageMeter(answer.headers["content-type"]);
    response.writeHead(status, {
      ...sandboxHeaders(answer.headers, (value) => scrubText(value, needles)),
      // a credential does not become right by repeating, which claude would do for three minutes
      ...((status === 401 || status === 403) && { "x-should-retry": "false" }),
    });
    response.flushHeaders();
    answer.once("error", () => {
      leaver ??= "upstream_gone";
    });
    const scrubber = new Scrubber(needles, (chunk) => {
      bytesOut += chunk.length;
      meter.push(chunk);
    });
    try {
      await pipeline(answer, scrubber, response);
      meter.end();
      return outcome(status, null);
    } catch {
      // whichever side left, pipeline has destroyed the other: the client sees a broken stream and no clean end
      return outcome(status, leaver);
    }
  } finally {
    ended.removeEventListener("abort", onEnd);
  }
}
