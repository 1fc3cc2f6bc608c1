/** How the scripted API answers: its paths, its errors, and replies as JSON or as a stream of events. */
import type { ServerResponse } from "node:http";
import { setTimeout as delay } from "node:timers/promises";
import { messageEvents, messageOf, newId, tokensIn, usageOf } from "./message-events.ts";
import { readModelRequest } from "./model-request.ts";
import type { RecordedRequest } from "./recorded-request.ts";
import type { CutMessage, EndedMessage, Reply, Script } from "./script.ts";
import { cutBlocks, cutBytes, encode, sendPieces } from "./send-pieces.ts";

type JsonObject = Readonly<Record<string, unknown>>;

const modelIds = ["claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-4-5"];

/** time between the last bytes and the break, see `Cut` */
const breakDelayMs = 100;

const errorTypes: Readonly<Record<number, string>> = {
  400: "invalid_request_error",
  401: "authentication_error",
  402: "billing_error",
  403: "permission_error",
  404: "not_found_error",
  405: "invalid_request_error",
  413: "request_too_large",
  429: "rate_limit_error",
  504: "timeout_error",
  529: "overloaded_error",
};

/** Answers by path. `died` is told before a connection is broken off by intent. */
export async function answer(
  request: RecordedRequest,
  response: ServerResponse,
  script: Script,
  died: () => void,
): Promise<void> {
  const { path, method } = request;
  const isMessages = path === "/v1/messages";
  if (path === "/v1/models" && method === "GET") return sendJson(response, 200, modelList());
  if (!isMessages && path !== "/v1/messages/count_tokens") return sendError(response, 404, "Not found");
  if (method !== "POST") return sendError(response, 405, "Method Not Allowed");
  const complaint = complaintAbout(request, isMessages);
  if (complaint !== undefined) return sendError(response, 400, complaint);
  const body = request.body as JsonObject;
  if (!isMessages) return sendJson(response, 200, { input_tokens: tokensIn(body) });
  const reply = await askScript(script, body);
  if (!response.closed) await sendReply(response, body, reply, died);
}

/** An error in the API's shape. */
export function sendError(
  response: ServerResponse,
  status: number,
  message: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  const id = newId("req");
  const type = errorTypes[status] ?? (status < 500 ? "invalid_request_error" : "api_error");
  sendJson(
    response,
    status,
    { type: "error", error: { type, message }, request_id: id },
    { ...headers, "request-id": id },
  );
}

function sendJson(
  response: ServerResponse,
  status: number,
  body: object,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, { "content-type": "application/json", "request-id": newId("req"), ...headers });
  response.end(JSON.stringify(body));
}

function modelList(): object {
  const data = modelIds.map((id) => ({ type: "model", id, display_name: id, created_at: "2026-01-01T00:00:00Z" }));
  return { data, has_more: false, first_id: modelIds[0], last_id: modelIds.at(-1) };
}

/** What the real API would say of a request that it does not take. */
function complaintAbout({ headers, body }: RecordedRequest, isMessages: boolean): string | undefined {
  if (headers["anthropic-version"] === undefined) return "anthropic-version: header is required";
  if (typeof body !== "object" || body === null) return "The request body is not valid JSON";
  const fields: JsonObject = { ...body };
  if (typeof fields["model"] !== "string") return "model: Field required";
  if (isMessages && typeof fields["max_tokens"] !== "number") return "max_tokens: Field required";
  if (!Array.isArray(fields["messages"])) return "messages: Field required";
  return fields["messages"].length === 0 ? "messages: at least one message is required" : undefined;
}

async function askScript(script: Script, body: JsonObject): Promise<Reply> {
  try {
    return await script(readModelRequest(body));
  } catch (thrown) {
    const message = `The script failed: ${thrown instanceof Error ? thrown.stack : thrown}`;
    return { type: "refusal", status: 500, message, headers: { "x-should-retry": "false" } };
  }
}

type Answer = Pick<EndedMessage, "blocks"> & Partial<Omit<CutMessage, "type"> & Omit<EndedMessage, "type">>;

async function sendReply(response: ServerResponse, body: JsonObject, reply: Reply, died: () => void): Promise<void> {
  if ("status" in reply) return sendError(response, reply.status, reply.message, reply.headers);
  const { blocks, cut = {}, afterwards, ending }: Answer = "blocks" in reply ? reply : { blocks: [reply].flat() };
  const model = String(body["model"]);
  const usage = usageOf(body, blocks, ending);
  const isStream = body["stream"] === true;
  const contentType = isStream ? "text/event-stream; charset=utf-8" : "application/json";
  const pieces = isStream
    ? encode(cutBlocks(messageEvents(model, blocks, usage, ending), cut))
    : [{ bytes: Buffer.from(JSON.stringify(messageOf(model, blocks, usage, ending))), delayMs: 0 }];
  if (!(await sendPieces(response, contentType, cutBytes(pieces, cut)))) return;
  if (afterwards === undefined) response.end();
  if (afterwards !== "break") return;
  await (cut.when ?? delay(breakDelayMs));
  died();
  response.socket?.destroySoon();
}
