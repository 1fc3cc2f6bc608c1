/** A Messages API request as a script sees it. All is derived from the body, so a replayed request gets the same answer. */

/** One block of a message; only the fields of its own type are set. */
export interface ContentBlock {
  type: string;
  text?: string;
  id?: string;
  name?: string;
  input?: Readonly<Record<string, unknown>>;
  tool_use_id?: string;
  content?: string | readonly ContentBlock[];
  is_error?: boolean;
}

export interface Message {
  role: string;
  content: string | readonly ContentBlock[];
}

interface ToolResult {
  id: string;
  text: string;
  isError: boolean;
}

/** A tool use of the conversation with what came of it; no `result` while there is none. */
export interface ToolCall {
  id: string;
  name: string;
  input: Readonly<Record<string, unknown>>;
  result: ToolResult | undefined;
}

export interface ModelRequest {
  model: string;
  stream: boolean;
  /** the client's own name for the conversation, empty when it sent none */
  conversation: string;
  messages: readonly Message[];
  /** what the user really wrote, oldest first: without reminders and notes that claude adds by itself */
  userTexts: readonly string[];
  /** the last of `userTexts`, empty when there is none */
  userText: string;
  turnCount: number;
  /** assistant messages since `userText`: 0 is the first reply of the turn */
  step: number;
  /** results in the last message */
  toolResults: readonly ToolResult[];
  /** every tool use of the whole conversation */
  toolCalls: readonly ToolCall[];
}

const reminder = /<system-reminder>[\s\S]*?<\/system-reminder>/g;
/** lines that claude writes in the user's name when a reply was interrupted, cut off or refused */
const claudesOwn =
  /^\[Request interrupted by user|^Your response above was (?:cut off mid-stream|stopped by a safety classifier)|^Output token limit hit/;

export function readModelRequest(body: Readonly<Record<string, unknown>>): ModelRequest {
  const messages = body["messages"] as readonly Message[];
  const userTexts: string[] = [];
  const toolCalls: ToolCall[] = [];
  let step = 0;
  for (const message of messages) {
    const blocks = blocksOf(message);
    const texts = message.role === "user" ? blocks.flatMap(userTextOf) : [];
    if (texts.length > 0) step = 0;
    if (message.role === "assistant") step += 1;
    userTexts.push(...texts);
    for (const { type, id = "", name = "", input = {} } of blocks) {
      if (type === "tool_use") toolCalls.push({ id, name, input, result: undefined });
    }
    for (const result of toolResultsOf(blocks)) {
      const call = toolCalls.find(({ id }) => id === result.id);
      if (call !== undefined) call.result = result;
    }
  }
  const last = messages.findLast(({ role }) => role !== "system");
  return {
    model: String(body["model"]),
    stream: body["stream"] === true,
    conversation: conversationOf(body["metadata"]),
    messages,
    userTexts,
    userText: userTexts.at(-1) ?? "",
    turnCount: userTexts.length,
    step,
    toolResults: last === undefined ? [] : toolResultsOf(blocksOf(last)),
    toolCalls,
  };
}

function blocksOf({ content }: Message): readonly ContentBlock[] {
  return typeof content === "string" ? [{ type: "text", text: content }] : content;
}

function userTextOf({ type, text = "" }: ContentBlock): string[] {
  const said = type === "text" ? text.replaceAll(reminder, "").trim() : "";
  return said === "" || claudesOwn.test(said) ? [] : [said];
}

function toolResultsOf(blocks: readonly ContentBlock[]): ToolResult[] {
  return blocks
    .filter(({ type }) => type === "tool_result")
    .map(({ tool_use_id = "", content = "", is_error = false }) => ({
      id: tool_use_id,
      text: typeof content === "string" ? content : content.map(({ text = "" }) => text).join("\n"),
      isError: is_error,
    }));
}

/** Claude sends JSON with a session id as `metadata.user_id`; other clients send any string there. */
function conversationOf(metadata: unknown): string {
  const userId = (metadata as { user_id?: unknown } | undefined)?.user_id;
  if (typeof userId !== "string") return "";
  try {
    return String((JSON.parse(userId) as { session_id?: unknown }).session_id ?? userId);
  } catch {
    // not JSON: an id of the client's own
    return userId;
  }
}
