/** Answers in the shapes that the Messages API has, and what each must cost: the golden corpus of the meter. */

export interface MeteredAnswer {
  name: string;
  status?: number;
  contentType: string;
  body: string;
  /** the connection dies after the body, without an end */
  dies?: boolean;
  /** tokens as [input, output, cache read, cache written, kept for an hour]; undefined: as the request was estimated */
  tokens: [number, number, number, number, number] | "estimated input";
  /** output beside an estimated input */
  output?: number;
  searches?: number;
}

const events = "text/event-stream; charset=utf-8";
const json = "application/json";
const model = "claude-opus-5";

export function sse(...messages: object[]): string {
  return messages
    .map((data) => `event: ${(data as { type: string }).type}\ndata: ${JSON.stringify(data)}\n\n`)
    .join("");
}

const start = (usage: object) => ({ type: "message_start", message: { id: "msg_1", model, usage } });
const text = (words: string) => ({
  type: "content_block_delta",
  index: 0,
  delta: { type: "text_delta", text: words },
});
const end = (usage?: object) => ({ type: "message_delta", delta: { stop_reason: "end_turn" }, usage });
const stop = { type: "message_stop" };

export const corpus: readonly MeteredAnswer[] = [
  {
    name: "a plain stream",
    contentType: events,
    body: sse(start({ input_tokens: 1000, output_tokens: 1 }), text("hello"), end({ output_tokens: 200 }), stop),
    tokens: [1000, 200, 0, 0, 0],
  },
  {
    name: "a stream from the cache and to it, both kinds",
    contentType: events,
    body: sse(
      start({
        ...{ input_tokens: 10, cache_read_input_tokens: 5000, cache_creation_input_tokens: 300, output_tokens: 1 },
        cache_creation: { ephemeral_5m_input_tokens: 100, ephemeral_1h_input_tokens: 200 },
      }),
      end({ output_tokens: 50 }),
      stop,
    ),
    tokens: [10, 50, 5000, 300, 200],
  },
  {
    name: "a stream whose last figures are totals of all",
    contentType: events,
    body: sse(
      start({ input_tokens: 10, output_tokens: 1 }),
      end({ input_tokens: 40, output_tokens: 60, cache_read_input_tokens: 7 }),
      stop,
    ),
    tokens: [40, 60, 7, 0, 0],
  },
  {
    name: "web searches of the server",
    contentType: events,
    body: sse(
      start({ input_tokens: 10, output_tokens: 1 }),
      end({ output_tokens: 5, server_tool_use: { web_search_requests: 3 } }),
      stop,
    ),
    tokens: [10, 5, 0, 0, 0],
    searches: 3,
  },
  {
    name: "rounds of a conversation that was compacted on the way",
    contentType: json,
    body: JSON.stringify({
      ...{ type: "message", model },
      usage: {
        ...{ input_tokens: 100, output_tokens: 10 },
        iterations: [
          { type: "compaction", input_tokens: 9000, output_tokens: 700 },
          { type: "message", input_tokens: 100, output_tokens: 10 },
        ],
      },
    }),
    tokens: [9100, 710, 0, 0, 0],
  },
  {
    name: "one whole message",
    contentType: json,
    body: JSON.stringify({ type: "message", model, content: [], usage: { input_tokens: 12, output_tokens: 34 } }),
    tokens: [12, 34, 0, 0, 0],
  },
  {
    name: "a whole message, printed over many lines",
    contentType: json,
    body: JSON.stringify({ type: "message", model, usage: { input_tokens: 12, output_tokens: 34 } }, undefined, 2),
    tokens: [12, 34, 0, 0, 0],
  },
  {
    name: "a whole message that does not say what it used",
    contentType: json,
    body: JSON.stringify({ type: "message", model, content: [] }),
    tokens: "estimated input",
  },
  {
    name: "figures that are no counts",
    contentType: json,
    body: '{"type":"message","usage":{"input_tokens":-5,"output_tokens":"many","cache_read_input_tokens":1e999}}',
    tokens: [0, 0, 0, 0, 0],
  },
  {
    name: "a stream that dies after its start",
    contentType: events,
    body: sse(start({ input_tokens: 3, output_tokens: 1 })),
    dies: true,
    tokens: "estimated input",
    output: 1,
  },
  {
    name: "a stream that dies in its words: what passed is counted by its length",
    contentType: events,
    body: sse(start({ input_tokens: 3, output_tokens: 1 }), text("x".repeat(4000))),
    dies: true,
    tokens: "estimated input",
    output: 1000,
  },
  {
    name: "a stream that dies in the middle of an event",
    contentType: events,
    body: sse(start({ input_tokens: 3, output_tokens: 1 })).slice(0, -20),
    dies: true,
    tokens: "estimated input",
  },
  {
    name: "a stream that dies after its figures",
    contentType: events,
    body: sse(start({ input_tokens: 3, output_tokens: 1 }), end({ output_tokens: 77 })),
    dies: true,
    tokens: [3, 77, 0, 0, 0],
  },
  {
    name: "a stream with an error in it",
    contentType: events,
    body: sse(start({ input_tokens: 3, output_tokens: 1 }), { type: "error", error: { type: "overloaded_error" } }),
    tokens: "estimated input",
    output: 1,
  },
  {
    name: "a stream without any figures",
    contentType: events,
    body: sse(text("a"), text("b"), stop),
    tokens: "estimated input",
    output: 2,
  },
  {
    name: "words that speak of usage",
    contentType: events,
    body: sse(
      start({ input_tokens: 4, output_tokens: 1 }),
      text('{"usage": {"output_tokens": 999999}}'),
      { type: "content_block_start", content_block: { type: "text", text: '"usage"' } },
      end({ output_tokens: 6 }),
      stop,
    ),
    tokens: [4, 6, 0, 0, 0],
  },
  {
    name: "carriage returns at the ends of lines",
    contentType: events,
    body: sse(start({ input_tokens: 4, output_tokens: 1 }), end({ output_tokens: 6 }), stop).replaceAll("\n", "\r\n"),
    tokens: [4, 6, 0, 0, 0],
  },
  {
    name: "pings, comments and a byte order mark",
    contentType: events,
    body: `\ufeff: hello\n\n${sse({ type: "ping" }, start({ input_tokens: 4, output_tokens: 1 }), end({ output_tokens: 6 }))}`,
    tokens: [4, 6, 0, 0, 0],
  },
  { name: "an error of the API", status: 529, contentType: json, body: '{"type":"error"}', tokens: [0, 0, 0, 0, 0] },
  { name: "a bad request", status: 400, contentType: json, body: '{"type":"error"}', tokens: [0, 0, 0, 0, 0] },
  { name: "an empty answer", contentType: json, body: "", tokens: "estimated input" },
  { name: "a page in HTML", contentType: "text/html", body: "<h1>hello</h1>", tokens: "estimated input" },
];
