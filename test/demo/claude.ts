/** The real claude binary, driven by the real SDK against a scripted API, in folders of its own. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Query,
  query,
  type SDKMessage,
  type SDKResultMessage,
  type SDKUserMessage,
} from "@anthropic-ai/claude-agent-sdk";

export interface Turn {
  /** all text that streamed, also what was void later */
  streamed: string;
  messages: readonly SDKMessage[];
  result: SDKResultMessage;
  /** the last words, or what went wrong */
  text: string;
}

export class Claude implements AsyncDisposable {
  /** working directory of the agent */
  readonly folder: string;
  readonly query: Query;
  readonly #root: string;
  readonly #outbox: WritableStreamDefaultWriter<SDKUserMessage>;

  private constructor(root: string, environment: Readonly<Record<string, string>>) {
    this.#root = root;
    this.folder = join(root, "app");
    const { readable, writable } = new TransformStream<SDKUserMessage, SDKUserMessage>();
    this.#outbox = writable.getWriter();
    this.query = query({
      prompt: readable,
      options: {
        cwd: this.folder,
        settingSources: [],
        includePartialMessages: true,
        permissionMode: "bypassPermissions",
        allowDangerouslySkipPermissions: true,
        env: {
          PATH: process.env["PATH"],
          HOME: join(root, "home"),
          CLAUDE_CONFIG_DIR: join(root, "claude"),
          CLAUDE_CODE_TMPDIR: root,
          IS_SANDBOX: "1",
          CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST: "1",
          CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
          CLAUDE_CODE_DISABLE_BACKGROUND_TASKS: "1",
          CLAUDE_CODE_DISABLE_AUTO_MEMORY: "1",
          CLAUDE_CODE_MAX_RETRIES: "1",
          ...environment,
        },
      },
    });
  }

  /** `origin`: the API to use. */
  static async start(
    origin: string,
    apiKey = "sb-test.key",
    environment: Readonly<Record<string, string>> = {},
  ): Promise<Claude> {
    const root = await mkdtemp(join(tmpdir(), "modal-sb-claude-"));
    await Promise.all(["app", "home", "claude"].map((name) => mkdir(join(root, name))));
    return new Claude(root, { ANTHROPIC_BASE_URL: origin, ANTHROPIC_API_KEY: apiKey, ...environment });
  }

  /** Says `text` and waits for the end of the turn. */
  async say(text: string, onMessage: (message: SDKMessage) => void = () => {}): Promise<Turn> {
    await this.#outbox.write({ type: "user", message: { role: "user", content: text }, parent_tool_use_id: null });
    const messages: SDKMessage[] = [];
    let streamed = "";
    for (;;) {
      const { value, done } = await this.query.next();
      if (done) throw new Error("claude ended within a turn");
      messages.push(value);
      streamed += deltaIn(value);
      onMessage(value);
      if (value.type !== "result") continue;
      const text = value.subtype === "success" ? value.result : value.errors.join("\n");
      return { streamed, messages, result: value, text };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { pid } = (await this.query.initializationResult()) as { pid?: number };
    assert.ok(pid !== undefined, "the SDK tells the process id of claude");
    process.kill(pid, "SIGTERM");
    try {
      for (;;) if ((await this.query.next()).done) break;
    } catch {
      // how the SDK reports a process that was told to end
    }
    await rm(this.#root, { recursive: true, force: true, maxRetries: 10 });
  }
}

/** The text that a message streams, empty for all other messages. */
export function deltaIn(message: SDKMessage): string {
  if (message.type !== "stream_event" || message.event.type !== "content_block_delta") return "";
  const { delta } = message.event;
  return delta.type === "text_delta" ? delta.text : "";
}
