/** claude's messages become events of one turn. Pure but for the text that is open; unknown messages give nothing. */
import type { SDKMessage } from "@anthropic-ai/claude-agent-sdk";
import { maxToolTextLength } from "../protocol/limits.ts";
import type { UnnumberedEvent, Usage } from "../protocol/messages.ts";

/** longest text of one event, in characters: six bytes each at worst in JSON */
const maxDeltaLength = 64 * 1024;

interface TextBlock {
  type: "text";
  text: string;
}
interface ToolUseBlock {
  type: "tool_use";
  id: string;
  name: string;
  input: unknown;
}
interface ToolResultBlock {
  type: "tool_result";
  tool_use_id: string;
  is_error?: boolean;
  content?: string | { type: string; text?: string }[];
}
type Block = TextBlock | ToolUseBlock | ToolResultBlock | { type: "thinking" };

/** System messages carry fields that the SDK's types do not name. */
type SystemFields = Record<string, unknown> & { subtype: string };

export class TurnTranslator {
  readonly #turnId: string;
  /** true while streamed text is not yet confirmed by a whole block */
  #openText = false;
  #streamed = false;
  #lastText = "";

  constructor(turnId: string) {
    this.#turnId = turnId;
  }

  /** the last whole text of the turn */
  get lastText(): string {
    return this.#lastText;
  }

  /** The events that a message means. */
  translate(message: SDKMessage): UnnumberedEvent[] {
    switch (message.type) {
      case "stream_event":
        return message.parent_tool_use_id === null ? this.#stream(message.event as StreamEvent) : [];
      case "assistant": {
        const failed = message.error !== undefined;
        return (message.message.content as Block[]).flatMap((block) => this.#assistantBlock(block, failed));
      }
      case "user": {
        const { content } = message.message;
        return Array.isArray(content) ? (content as Block[]).flatMap((block) => this.#toolResult(block)) : [];
      }
      case "system":
        return this.#system(message as unknown as SystemFields);
      default:
        return [];
    }
  }

  #stream(event: StreamEvent): UnnumberedEvent[] {
    if (event.type === "message_start") {
      this.#streamed = false;
      return this.#discardOpenText();
    }
    if (event.type === "message_delta" && event.usage !== undefined) {
      return [{ type: "usage", turnId: this.#turnId, usage: usageOf(event.usage) }];
    }
    if (event.type !== "content_block_delta" || event.delta?.type !== "text_delta") return [];
    this.#openText = true;
    this.#streamed = true;
    return this.#deltas(event.delta.text ?? "");
  }

  /** A line of the protocol holds only so much. */
  #deltas(text: string): UnnumberedEvent[] {
    const events: UnnumberedEvent[] = [];
    for (let start = 0; start < text.length; start += maxDeltaLength) {
      events.push({ type: "text_delta", turnId: this.#turnId, text: text.slice(start, start + maxDeltaLength) });
    }
    return events;
  }

  #assistantBlock(block: Block, failed: boolean): UnnumberedEvent[] {
    if (block.type === "text") {
      // the text of a failed request is claude's own error message: END_TURN says it
      if (failed) return [];
      this.#openText = false;
      this.#lastText = block.text;
      const ended: UnnumberedEvent = { type: "text_ended", turnId: this.#turnId };
      return this.#streamed ? [ended] : [...this.#deltas(block.text), ended];
    }
    if (block.type !== "tool_use") return [];
    const input = cut(JSON.stringify(block.input ?? {}));
    return [{ type: "tool_started", turnId: this.#turnId, toolId: block.id, name: block.name, input }];
  }

  #toolResult(block: Block): UnnumberedEvent[] {
    if (block.type !== "tool_result") return [];
    const { content = "" } = block;
    const output =
      typeof content === "string" ? content : content.map((part) => part.text ?? `[${part.type}]`).join("\n");
    return [
      {
        type: "tool_ended",
        turnId: this.#turnId,
        toolId: block.tool_use_id,
        isError: block.is_error ?? false,
        output: cut(output),
      },
    ];
  }

  #system(message: SystemFields): UnnumberedEvent[] {
    const status = (kind: "retry" | "compacting" | "model" | "notice", text: string): UnnumberedEvent => ({
      type: "status",
      turnId: this.#turnId,
      kind,
      message: cut(text),
    });
    switch (message.subtype) {
      case "api_retry": {
        const { attempt, max_retries, retry_delay_ms, error_status } = message;
        const why = error_status === null || error_status === undefined ? "no answer" : `HTTP ${error_status}`;
        const seconds = (Number(retry_delay_ms) / 1000).toFixed(1);
        return [
          ...this.#discardOpenText(),
          status("retry", `${why} from the API; try ${attempt} of ${max_retries} in ${seconds} s`),
        ];
      }
      case "status":
        return message["status"] === "compacting" ? [status("compacting", "The conversation is being compacted")] : [];
      case "compact_boundary":
        return [status("compacting", "The conversation was compacted")];
      case "model_refusal_fallback": {
        const { original_model, fallback_model, scope } = message;
        const howLong = scope === "local" ? "this once" : "from now on";
        return [status("model", `${original_model} refused; ${fallback_model} answers ${howLong}`)];
      }
      case "model_fallback":
        return [status("model", `${message["fallback_model"]} answers in place of ${message["original_model"]}`)];
      case "informational":
        return message["level"] === "info" ? [] : [status("notice", String(message["content"]))];
      case "permission_denied":
        return [status("notice", `${message["tool_name"]} was refused: ${message["message"]}`)];
      case "session_writes_lost":
        return [status("notice", "The transcript could not be written: the data volume is full")];
      case "local_command_output":
        this.#streamed = true;
        return this.#deltas(String(message["content"] ?? ""));
      default:
        return [];
    }
  }

  #discardOpenText(): UnnumberedEvent[] {
    if (!this.#openText) return [];
    this.#openText = false;
    return [{ type: "text_discarded", turnId: this.#turnId }];
  }
}

interface StreamEvent {
  type: string;
  usage?: unknown;
  delta?: { type: string; text?: string };
}

/** The API's usage figures in our words. */
export function usageOf(usage: unknown): Usage {
  const figures = (usage ?? {}) as Record<string, unknown>;
  const figure = (name: string) => Number(figures[name] ?? 0);
  return {
    inputTokens: figure("input_tokens"),
    outputTokens: figure("output_tokens"),
    cacheReadTokens: figure("cache_read_input_tokens"),
    cacheWriteTokens: figure("cache_creation_input_tokens"),
  };
}

/** At most maxToolTextLength characters, saying how many are missing. */
function cut(text: string): string {
  if (text.length <= maxToolTextLength) return text;
  return `${text.slice(0, maxToolTextLength)} … ${text.length - maxToolTextLength} more characters`;
}
