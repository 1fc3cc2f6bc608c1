/** What a test looks for in the requests that reached the scripted API. */
import type { ContentBlock } from "../../src/demo/model-request.ts";
import type { RecordedRequest } from "../../src/demo/recorded-request.ts";

export interface SentBody {
  model: string;
  messages: { role: string; content: string | (ContentBlock & Readonly<Record<string, unknown>>)[] }[];
  thinking?: { type: string };
  output_config?: { effort?: string };
  safeguards?: unknown;
  tools?: { name: string }[];
}

export function bodyOf(request: RecordedRequest | undefined): SentBody {
  return request?.body as SentBody;
}

/** The names in the header `anthropic-beta`, with their dates. */
export function betasOf(request: RecordedRequest | undefined): string[] {
  return String(request?.headers["anthropic-beta"] ?? "").split(",");
}

/** All blocks of a request's messages; a plain string is one block of text. */
export function blocksIn(request: RecordedRequest | undefined) {
  return bodyOf(request).messages.flatMap(({ content }) =>
    typeof content === "string" ? [{ type: "text", text: content }] : content,
  );
}

/** The blocks within the results of tools. */
export function resultBlocksIn(request: RecordedRequest | undefined): (ContentBlock & { source?: unknown })[] {
  return blocksIn(request).flatMap(({ type, content }) =>
    type === "tool_result" && Array.isArray(content) ? content : [],
  );
}
