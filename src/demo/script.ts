/**
 * The words a script is written in: a script looks at a request and says what the model replies.
 * It keeps no state of the conversation; what to say next follows from the request's own messages.
 */
import type { ModelRequest } from "./model-request.ts";

export type Block =
  | { type: "text"; deltas: readonly string[]; deltaMs: number }
  | { type: "thinking"; thinking: string }
  | { type: "tool_use"; name: string; input: Readonly<Record<string, unknown>> };

/** Where a message breaks off: within the block after that many whole ones, or after that many bytes; 0 bytes: unanswered. */
export interface Cut {
  afterBlocks?: number;
  afterBytes?: number;
  /** breaks off only then: a client that is told of data and of the end at once may never look at the data */
  when?: Promise<unknown>;
}

export interface CutMessage {
  type: "cut_message";
  blocks: readonly Block[];
  cut: Cut;
  /** what follows: silence, or the end of the connection */
  afterwards: "hang" | "break";
}

export interface Refusal {
  type: "refusal";
  status: number;
  message: string;
  headers: Readonly<Record<string, string>>;
}

/** What the API says about a message's end and its size. */
export interface Ending {
  /** what follows from the blocks when undefined: `tool_use` or `end_turn` */
  stopReason?: "max_tokens" | "pause_turn" | "refusal" | "model_context_window_exceeded";
  /** the API's explanation of a refusal: its category and words, and a token for asking another model at no cost */
  stopDetails?: Readonly<Record<string, unknown>>;
  /** what the request is said to measure; counted when undefined */
  inputTokens?: number;
}

export interface EndedMessage {
  type: "ended_message";
  blocks: readonly Block[];
  ending: Ending;
}

export type Reply = Block | readonly Block[] | CutMessage | EndedMessage | Refusal;

/** May return a promise, so that a test can hold the reply back until it has seen what it waits for. */
export type Script = (request: ModelRequest) => Reply | Promise<Reply>;

/** One reply of a turn, or how to make it when it depends on the request. */
export type Step = Reply | Script;

export interface Rule {
  /** tested on the user's text of the running turn */
  when: RegExp;
  /** the turn's replies in order, one for each request of it */
  replies: readonly Step[];
}

/** Text that streams word by word. */
export function text(content: string): Block {
  return slow(0, content);
}

/** Text that streams word by word, each `deltaMs` after the one before. */
export function slow(deltaMs: number, content: string): Block {
  return deltas(content.match(/\s*\S{1,64}|\s+/gu) ?? [], deltaMs);
}

/** Text that streams in exactly these pieces. */
export function deltas(pieces: readonly string[], deltaMs = 0): Block {
  return { type: "text", deltas: pieces, deltaMs };
}

export function thinking(content: string): Block {
  return { type: "thinking", thinking: content };
}

export function toolUse(name: string, input: Readonly<Record<string, unknown>>): Block {
  return { type: "tool_use", name, input };
}

/** A message that ends as `ending` says, e.g. `ended({ stopReason: "max_tokens" }, text("half a"))`. */
export function ended(ending: Ending, ...blocks: readonly Block[]): EndedMessage {
  return { type: "ended_message", blocks, ending };
}

/** An error answer in the API's own shape, e.g. `refuse(429, { retryAfter: 1 })`. */
export function refuse(
  status: number,
  options: { retryAfter?: number; message?: string; headers?: Readonly<Record<string, string>> } = {},
): Refusal {
  const { retryAfter, message = `Scripted refusal with status ${status}`, headers = {} } = options;
  const waiting = retryAfter === undefined ? {} : { "retry-after": String(retryAfter) };
  return { type: "refusal", status, message, headers: { ...waiting, ...headers } };
}

/** Streams these blocks and breaks the connection on the way. */
export function dieMidStream(cut: Cut, ...blocks: readonly Block[]): CutMessage {
  return { type: "cut_message", blocks, cut, afterwards: "break" };
}

/** Streams these blocks and then nothing more, until the client leaves; without blocks, not even a status. */
export function hang(...blocks: readonly Block[]): CutMessage {
  const cut = blocks.length === 0 ? { afterBytes: 0 } : { afterBlocks: blocks.length };
  return { type: "cut_message", blocks, cut, afterwards: "hang" };
}

/** The turn's replies in order; a request too many is refused, so that a wrong script shows itself. */
export function sequence(...replies: readonly Step[]): Script {
  return (request) => {
    const step = replies[request.step];
    if (step === undefined) return refuse(400, { message: `The script has no reply for step ${request.step}` });
    return typeof step === "function" ? step(request) : step;
  };
}

/** A table: the first rule that fits the user's text replies, else `fallback`. */
export function script(rules: readonly Rule[], fallback: Step): Script {
  return (request) => {
    const rule = rules.find(({ when }) => when.test(request.userText));
    if (rule !== undefined) return sequence(...rule.replies)(request);
    return typeof fallback === "function" ? fallback(request) : fallback;
  };
}
