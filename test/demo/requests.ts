/** Conversations as a client sends them, for scripts that are asked without a server. */
import assert from "node:assert/strict";
import { type ContentBlock, type Message, type ModelRequest, readModelRequest } from "../../src/demo/model-request.ts";
import type { Reply, Script } from "../../src/demo/script.ts";

export const user = (...content: ContentBlock[]): Message => ({ role: "user", content });
export const assistant = (...content: ContentBlock[]): Message => ({ role: "assistant", content });
export const said = (text: string): ContentBlock => ({ type: "text", text });
export const used = (id: string, name: string, input: Record<string, unknown>): ContentBlock => ({
  type: "tool_use",
  id,
  name,
  input,
});
export const result = (id: string, content: ContentBlock["content"] & {}, is_error = false): ContentBlock => ({
  type: "tool_result",
  tool_use_id: id,
  content,
  is_error,
});

export function requestOf(...messages: Message[]): ModelRequest {
  return readModelRequest({ model: "claude-opus-5-5", stream: true, messages });
}

/** The text of a reply that is nothing but one text block. */
export async function textOf(script: Script, ...messages: Message[]): Promise<string> {
  return spoken(await script(requestOf(...messages)));
}

export function spoken(reply: Reply): string {
  assert.ok("deltas" in reply, `${JSON.stringify(reply)} is a single text block`);
  return reply.deltas.join("");
}
