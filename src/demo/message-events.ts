/** A model's message as the Messages API sends it: whole as JSON, or as the events of a stream. Pure, but for random ids. */
import { randomBytes } from "node:crypto";
import type { Block, Ending } from "./script.ts";

export interface Usage {
  input_tokens: number;
  cache_creation_input_tokens: number;
  cache_read_input_tokens: number;
  output_tokens: number;
}

/** One server-sent event, to be sent `delayMs` after the one before. */
export interface StreamEvent {
  data: { type: string } & Readonly<Record<string, unknown>>;
  delayMs: number;
}

/** An id as the API makes them, e.g. `msg_01...`. */
export function newId(prefix: "msg" | "toolu" | "req"): string {
  return `${prefix}_01${randomBytes(11).toString("hex")}`;
}

/** The whole message, for a request without `stream`. */
export function messageOf(model: string, blocks: readonly Block[], usage: Usage, ending: Ending = {}) {
  return {
    id: newId("msg"),
    type: "message",
    role: "assistant",
    model,
    content: blocks.map(wholeBlock),
    ...endOf(blocks, ending),
    usage,
  };
}

/** The message's events from `message_start` to `message_stop`. */
export function* messageEvents(
  model: string,
  blocks: readonly Block[],
  usage: Usage,
  ending: Ending = {},
): Generator<StreamEvent> {
  const now = (data: StreamEvent["data"]): StreamEvent => ({ data, delayMs: 0 });
  const message = messageOf(model, [], { ...usage, output_tokens: 1 });
  yield now({ type: "message_start", message: { ...message, stop_reason: null } });
  for (const [index, block] of blocks.entries()) {
    yield now({ type: "content_block_start", index, content_block: emptyBlock(block) });
    if (index === 0) yield now({ type: "ping" });
    for (const [place, delta] of deltasOf(block).entries()) {
      const delayMs = block.type === "text" && place > 0 ? block.deltaMs : 0;
      yield { data: { type: "content_block_delta", index, delta }, delayMs };
    }
    yield now({ type: "content_block_stop", index });
  }
  yield now({ type: "message_delta", delta: endOf(blocks, ending), usage });
  yield now({ type: "message_stop" });
}

/** A plausible count, a token being about four bytes: all before the last message comes from the cache. */
export function usageOf(
  body: Readonly<Record<string, unknown>>,
  blocks: readonly Block[],
  { inputTokens }: Ending = {},
): Usage {
  const messages = body["messages"] as readonly { role: string }[];
  const fresh = tokensIn(messages.at(-1));
  const cached = Math.max(0, (inputTokens ?? tokensIn(body)) - fresh);
  const isFirst = !messages.some(({ role }) => role === "assistant");
  return {
    input_tokens: fresh,
    cache_creation_input_tokens: isFirst ? cached : 0,
    cache_read_input_tokens: isFirst ? 0 : cached,
    output_tokens: tokensIn(blocks.map(wholeBlock)),
  };
}

/** About how many tokens a JSON value is. */
export function tokensIn(value: unknown): number {
  return Math.ceil(Buffer.byteLength(JSON.stringify(value ?? "")) / 4);
}

function endOf(blocks: readonly Block[], { stopReason, stopDetails }: Ending) {
  const usual = blocks.some(({ type }) => type === "tool_use") ? "tool_use" : "end_turn";
  const details = stopDetails === undefined ? {} : { stop_details: stopDetails };
  return { stop_reason: stopReason ?? usual, stop_sequence: null, ...details };
}

function wholeBlock(block: Block) {
  if (block.type === "text") return { type: "text", text: block.deltas.join("") };
  if (block.type === "thinking") return { ...block, signature };
  return { ...block, id: newId("toolu") };
}

function emptyBlock(block: Block) {
  if (block.type === "text") return { type: "text", text: "" };
  if (block.type === "thinking") return { type: "thinking", thinking: "", signature: "" };
  return { ...block, id: newId("toolu"), input: {} };
}

function deltasOf(block: Block): readonly object[] {
  if (block.type === "text") return block.deltas.map((text) => ({ type: "text_delta", text }));
  if (block.type === "thinking") {
    const { thinking } = block;
    return [
      { type: "thinking_delta", thinking },
      { type: "signature_delta", signature },
    ];
  }
  const json = JSON.stringify(block.input);
  const middle = Math.ceil(json.length / 2);
  return [json.slice(0, middle), json.slice(middle)].map((partial_json) => ({
    type: "input_json_delta",
    partial_json,
  }));
}

/** stands for the real API's proof that it wrote a thinking block; no client checks it */
const signature = Buffer.from("scripted").toString("base64");
