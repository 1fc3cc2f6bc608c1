/** An endless stream of user messages for claude: open while the session lives, which keeps claude warm. */
import type { SDKUserMessage } from "@anthropic-ai/claude-agent-sdk";

export class Inbox implements AsyncIterable<SDKUserMessage> {
  readonly #waiting: SDKUserMessage[] = [];
  #wake: (() => void) | undefined;
  #closed = false;

  push(uuid: ReturnType<typeof crypto.randomUUID>, text: string): void {
    this.#waiting.push({ type: "user", uuid, message: { role: "user", content: text }, parent_tool_use_id: null });
    this.#wake?.();
  }

  /** claude ends when it has read everything. */
  close(): void {
    this.#closed = true;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncIterator<SDKUserMessage> {
    while (!this.#closed) {
      const next = this.#waiting.shift();
      if (next) yield next;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}
