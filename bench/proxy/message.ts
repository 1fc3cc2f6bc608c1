/** Requests and answers as the Messages API has them, in sizes that are common. */

/** what the paced upstream does, by the model that is asked for */
export type Model = "bench-think" | "bench-stream" | "bench-large";

/** A body of 2 KB. */
export function messageBody(model: Model | "claude-sonnet-4-5" = "claude-sonnet-4-5"): string {
  const bodyOf = (content: string) =>
    JSON.stringify({ model, max_tokens: 1024, messages: [{ role: "user", content }] });
  const words = "Read the file, say what it does, and name the lines that a reader will stumble over. ";
  return bodyOf(words.repeat(40).slice(0, 2048 - bodyOf("").length));
}

/** An answer of 600 bytes. */
export function messageAnswer(): string {
  const answerOf = (text: string) =>
    JSON.stringify({
      id: "msg_01BenchBenchBenchBenchBe",
      type: "message",
      role: "assistant",
      model: "claude-sonnet-4-5",
      content: [{ type: "text", text }],
      stop_reason: "end_turn",
      stop_sequence: null,
      usage: { input_tokens: 480, output_tokens: 75, cache_read_input_tokens: 0, cache_creation_input_tokens: 0 },
    });
  const words = "The file reads a list and sorts it by the second field; line 12 is the one to look at. ";
  return answerOf(words.repeat(10).slice(0, 600 - answerOf("").length));
}

/** Headers of every request, without the key. */
export const messageHeaders = {
  "content-type": "application/json",
  "anthropic-version": "2023-06-01",
  accept: "application/json",
} as const;

export const messagePath = "/v1/messages";

/** The whole request in HTTP/1.1, for clients that write to sockets. */
export function rawRequest(headers: Readonly<Record<string, string>>, body: string): string {
  const all = { host: "127.0.0.1", ...messageHeaders, ...headers, "content-length": String(Buffer.byteLength(body)) };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return `POST ${messagePath} HTTP/1.1\r\n${lines.join("")}\r\n${body}`;
}
