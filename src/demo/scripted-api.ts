/** A stand-in for api.anthropic.com on loopback, whose model replies what a script says. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { answer, sendError } from "./answer.ts";
import { keyOf, type Outcome, type RecordedRequest, readRequest } from "./recorded-request.ts";
import type { Script } from "./script.ts";

export interface ScriptedApi extends AsyncDisposable {
  /** e.g. http://127.0.0.1:40123 */
  readonly origin: string;
  /** in order of arrival; only the last `recordLimit` of them */
  readonly requests: readonly RecordedRequest[];
  /** The first request, past or future, that fits; rejects with the signal's reason, or when the server is disposed of. */
  waitForRequest(predicate: (request: RecordedRequest) => boolean, signal?: AbortSignal): Promise<RecordedRequest>;
}

export interface ScriptedApiOptions {
  script: Script;
  /** what `x-api-key` or a bearer token must equal; undefined: every caller is served */
  apiKey?: string;
  /** 127.0.0.1 when undefined */
  host?: string;
  /** any free one when undefined */
  port?: number;
  /** 1000 when undefined */
  recordLimit?: number;
}

export async function startScriptedApi(options: ScriptedApiOptions): Promise<ScriptedApi> {
  const { script, apiKey, host = "127.0.0.1", port = 0, recordLimit = 1000 } = options;
  const requests: RecordedRequest[] = [];
  const waiters = new Set<(request: RecordedRequest) => void>();
  const closed = new AbortController();

  const serve = async (incoming: IncomingMessage, response: ServerResponse) => {
    const ended = Promise.withResolvers<Outcome>();
    response.once("close", () => ended.resolve(response.writableFinished ? "answered" : "abandoned"));
    const request = await readRequest(incoming, ended.promise);
    if (request === undefined) return sendError(response, 413, "Request exceeds the maximum size");
    requests.push(request);
    if (requests.length > recordLimit) requests.shift();
    for (const tell of waiters) tell(request);
    if (apiKey !== undefined && keyOf(request) !== apiKey) return sendError(response, 401, "invalid x-api-key");
    await answer(request, response, script, () => ended.resolve("died"));
  };
  const server = createServer((incoming, response) => {
    serve(incoming, response).catch((thrown) => {
      // a client that left while it was being read or written to is its own business
      if (!response.destroyed) response.destroy(thrown);
    });
  });
  // an idle connection of a test must not be closed under a request that claude is about to send on it
  server.keepAliveTimeout = 0;
  server.listen(port, host);
  await once(server, "listening");
  const address = server.address() as AddressInfo;

  return {
    origin: `http://${address.family === "IPv6" ? `[${address.address}]` : address.address}:${address.port}`,
    requests,
    async waitForRequest(predicate, signal) {
      const past = requests.find(predicate);
      if (past !== undefined) return past;
      const { promise, resolve, reject } = Promise.withResolvers<RecordedRequest>();
      const stop = AbortSignal.any(signal === undefined ? [closed.signal] : [closed.signal, signal]);
      const giveUp = () => reject(stop.reason);
      const tell = (request: RecordedRequest) => {
        try {
          if (predicate(request)) resolve(request);
        } catch (thrown) {
          reject(thrown);
        }
      };
      waiters.add(tell);
      stop.addEventListener("abort", giveUp);
      if (stop.aborted) giveUp();
      try {
        return await promise;
      } finally {
        waiters.delete(tell);
        stop.removeEventListener("abort", giveUp);
      }
    },
    async [Symbol.asyncDispose]() {
      closed.abort(new Error("The scripted API was stopped"));
      const down = once(server, "close");
      server.close();
      server.closeAllConnections();
      await down;
    },
  };
}
