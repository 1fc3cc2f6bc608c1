/** One request's way to its upstream and back: the answer streams as it comes, and nothing is tried twice. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Dispatcher } from "undici";
import type { Connections } from "./connections.ts";
import type { CredentialHeader } from "./credentials.ts";
import { headersForSandbox, headersForUpstream } from "./headers.ts";
import { redirectFor } from "./redirect.ts";
import { type Reason, type Refusal, sendRefusal, statusOf } from "./refusal.ts";
import { Scrubber, scrubText } from "./scrub.ts";
import type { Timeouts } from "./timeouts.ts";
import type { Upstream } from "./upstreams/upstream.ts";
import type { UsageMeter } from "./usage-meter.ts";

/** an answer's last piece up to here is copied, to save a write; in bytes */
const smallBytes = 16 * 1024;

/** How an exchange ended that was not refused by rule. */
export type Ending =
  | Reason
  | "client_gone"
  | "client_stalled"
  | "upstream_gone"
  | "grant_ended"
  | "too_long"
  | "stopped"
  | null;

export interface Outcome {
  status: number;
  reason: Ending;
  /** the upstream's own name for the request */
  requestId: string | null;
  bytesIn: number;
  bytesOut: number;
  /** true when the upstream did not take the credential */
  credentialRefused: boolean;
}

export interface Passage {
  incoming: IncomingMessage;
  response: ServerResponse;
  upstream: Upstream;
  /** path and query */
  target: string;
  /** read before, or passed on as it comes, or none */
  body: Buffer | "stream" | undefined;
  credential: CredentialHeader | undefined;
  /** what no answer may show */
  needles: readonly Buffer[];
  /** headers of our own for the sandbox, name and value in turn */
  ownHeaders: readonly string[];
  /** sees every byte of the answer; `begin` says what it will be */
  meter?: { begin(status: number, contentType: string | undefined): UsageMeter | undefined };
  /** milliseconds of silence after which an event stream gets a ping between two events; 0: never */
  pingMs: number;
  /** while it runs, the request's end is among these: to be called when it must end now */
  running: Set<(ending: Ending) => void>;
  connections: Connections;
  timeouts: Timeouts;
  /** where sandboxes find the proxy */
  publicOrigin: string;
}

/** Resolves when both sides are done with the request. */
export function forward(passage: Passage): Promise<Outcome> {
  return new Promise((resolve) => new Exchange(passage, resolve).start());
}

const ping = Buffer.from('event: ping\ndata: {"type":"ping"}\n\n');

class Exchange implements Dispatcher.DispatchHandler {
  readonly #passage: Passage;
  readonly #resolve: (outcome: Outcome) => void;
  readonly #scrubber: Scrubber;
  #controller: Dispatcher.DispatchController | undefined;
  #meter: UsageMeter | undefined;
  /** who broke the exchange off: the first to leave, because each one's leaving makes the other leave */
  #ending: Ending = null;
  #done = false;
  #bytesIn = 0;
  #bytesOut = 0;
  #requestId: string | null = null;
  #expected: number | undefined;
  #status = 0;
  #stalled: NodeJS.Timeout | undefined;
  #pinger: NodeJS.Timeout | undefined;
  #longest: NodeJS.Timeout | undefined;
  #atBoundary = true;

  constructor(passage: Passage, resolve: (outcome: Outcome) => void) {
    this.#passage = passage;
    this.#resolve = resolve;
    this.#scrubber = new Scrubber(passage.needles);
  }

  start(): void {
    const { incoming, response, upstream, target, body, credential, running } = this.#passage;
    running.add(this.#end);
    this.#longest = setTimeout(() => this.#end("too_long"), this.#passage.timeouts.totalMs);
    response.once("close", this.#onClientClosed);
    if (response.destroyed) {
      this.#end("client_gone");
      return;
    }
    const headers = headersForUpstream(incoming.headers, upstream);
    // the credential comes last, so that no header of the sandbox can stand in its place
    if (credential) headers.push(credential.name, credential.value);
    if (Buffer.isBuffer(body)) this.#bytesIn = body.length;
    if (body === "stream") {
      const length = incoming.headers["content-length"];
      if (length !== undefined) headers.push("content-length", length);
      incoming.on("data", (chunk: Buffer) => {
        this.#bytesIn += chunk.length;
        if (this.#bytesIn <= upstream.maxBodyBytes) return;
        this.#refuse({ reason: "body_too_large", message: `a body may have ${upstream.maxBodyBytes} bytes` });
      });
      incoming.pause();
    }
    const method = incoming.method as Dispatcher.HttpMethod;
    const options = { method, path: target, headers, body: body === "stream" ? incoming : (body ?? null) };
    try {
      this.#passage.connections.dispatch(upstream.origin, options, this);
    } catch (error) {
      this.onResponseError(undefined, error as Error);
    }
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#ending !== null) controller.abort(new Error(this.#ending));
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | string[] | undefined>,
  ): void {
    const { response, upstream, target, needles, ownHeaders, publicOrigin } = this.#passage;
    // informational
    if (status < 200 || this.#ending !== null) return;
    this.#status = status;
    this.#requestId = requestIdOf(headers, needles);
    const encoding = headers["content-encoding"] ?? "identity";
    if (encoding !== "identity") {
      this.#refuse({
        reason: "upstream_encoded",
        message: `${upstream.origin.hostname} answered in an encoding`,
      });
      return;
    }
    const isRedirect = status >= 300 && status < 400 && status !== 304;
    const location = isRedirect ? redirectFor(headers["location"], upstream, target) : undefined;
    if (isRedirect && location === undefined) {
      this.#refuse({
        reason: "upstream_redirect",
        message: `${upstream.origin.hostname} answered with a redirect`,
      });
      return;
    }
    const contentType = wordOf(headers["content-type"]);
    this.#meter = this.#passage.meter?.begin(status, contentType);
    const length = wordOf(headers["content-length"]);
    if (length !== undefined && this.#passage.incoming.method !== "HEAD") this.#expected = Number(length);
    // a credential does not become right by repeating, which claude would do for three minutes
    const isFinal = status === 401 || status === 403;
    const { "x-should-retry": _advice, ...others } = headers;
    const passing = headersForSandbox(isFinal ? others : headers, upstream, needles, publicOrigin);
    if (isFinal) passing.push("x-should-retry", "false");
    if (location !== undefined) passing.push("location", scrubText(location, needles));
    response.writeHead(status, [...passing, ...ownHeaders]);
    if (this.#expected === undefined) response.flushHeaders();
    if (contentType?.startsWith("text/event-stream")) this.#schedulePing();
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#ending !== null) return;
    const { response } = this.#passage;
    this.#bytesOut += chunk.length;
    this.#meter?.push(chunk);
    const clean = this.#scrubber.push(chunk);
    if (this.#bytesOut === this.#expected) {
      const last = Buffer.concat([clean, this.#scrubber.end()]);
      // a string joins the headers in one write; as latin1 it is the same bytes
      if (last.length < smallBytes) response.end(last.toString("latin1"), "latin1");
      else response.end(last);
      return;
    }
    if (clean.length > 0 && !response.write(clean)) this.#waitForClient(controller);
    if (this.#pinger) {
      this.#atBoundary = endsEvent(chunk, this.#atBoundary);
      this.#pinger.refresh();
    }
  }

  onResponseEnd(): void {
    const { response } = this.#passage;
    clearTimeout(this.#pinger);
    this.#meter?.end();
    if (!response.writableEnded) response.end(this.#scrubber.end());
    this.#settleWhenSent();
  }

  onResponseError(_controller: unknown, error: Error): void {
    if (this.#done) return;
    if (this.#ending !== null) {
      this.#settle();
    } else if (this.#status !== 0) {
      this.#ending = "upstream_gone";
      this.#meter?.end();
      // the client sees a broken stream and no clean end
      this.#passage.response.destroy();
      this.#settle();
    } else {
      const code = (error as NodeJS.ErrnoException).code ?? "no answer";
      const message = `${this.#passage.upstream.origin.hostname} cannot be reached (${code})`;
      this.#refuse({ reason: "upstream_unreachable", message });
    }
  }

  readonly #onClientClosed = () => {
    if (!this.#passage.response.writableFinished) this.#end("client_gone");
  };

  /** Breaks the exchange off, on both sides. */
  readonly #end = (ending: Ending): void => {
    if (this.#done) return;
    this.#ending ??= ending;
    this.#passage.response.destroy();
    this.#controller?.abort(new Error(String(ending)));
    this.#settle();
  };

  #refuse(refusal: Refusal): void {
    const { response, upstream } = this.#passage;
    this.#ending ??= refusal.reason;
    this.#status = statusOf(refusal.reason, upstream.style);
    if (response.headersSent) response.destroy();
    else sendRefusal(response, refusal, upstream.style);
    this.#controller?.abort(new Error(refusal.reason));
    this.#settle();
  }

  #waitForClient(controller: Dispatcher.DispatchController): void {
    controller.pause();
    this.#stalled = setTimeout(() => this.#end("client_stalled"), this.#passage.timeouts.stalledMs);
    this.#passage.response.once("drain", () => {
      clearTimeout(this.#stalled);
      controller.resume();
    });
  }

  #schedulePing(): void {
    const { pingMs, response } = this.#passage;
    if (pingMs === 0) return;
    this.#pinger = setTimeout(() => {
      if (this.#atBoundary && this.#ending === null) response.write(ping);
      this.#pinger?.refresh();
    }, pingMs);
  }

  #settleWhenSent(): void {
    const { response } = this.#passage;
    if (response.writableFinished || response.destroyed) this.#settle();
    else response.once("close", () => this.#settle()).once("finish", () => this.#settle());
  }

  #settle(): void {
    if (this.#done) return;
    this.#done = true;
    const { running, response } = this.#passage;
    clearTimeout(this.#stalled);
    clearTimeout(this.#pinger);
    clearTimeout(this.#longest);
    running.delete(this.#end);
    response.off("close", this.#onClientClosed);
    const status = this.#status;
    this.#resolve({
      status,
      reason: this.#ending,
      requestId: this.#requestId,
      bytesIn: this.#bytesIn,
      bytesOut: this.#bytesOut,
      credentialRefused: status === 401 || (status === 403 && this.#ending === null),
    });
  }
}

function wordOf(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

/** It goes into the audit log, so it is a word, and shows no credential. */
function requestIdOf(
  headers: Record<string, string | string[] | undefined>,
  needles: readonly Buffer[],
): string | null {
  const id = wordOf(headers["request-id"] ?? headers["x-request-id"] ?? headers["x-github-request-id"]);
  return id !== undefined && /^[\w:.-]{1,100}$/.test(id) ? scrubText(id, needles) : null;
}

/** True when what has passed ends with a whole event: an empty line. */
function endsEvent(chunk: Buffer, before: boolean): boolean {
  const tail = chunk.subarray(-4).toString("latin1");
  return /(?:\n\n|\r\n\r\n|\r\r)$/.test(tail) || (chunk.length === 0 && before);
}
