/** The peer: the Claude Agent SDK alone, in streaming-input mode. Each line of stdin is a message; prints when text came. */
import { createInterface } from "node:readline";
import { query, type SDKUserMessage } from "@anthropic-ai/claude-agent-sdk";

async function* messages(): AsyncGenerator<SDKUserMessage> {
  for await (const line of createInterface({ input: process.stdin })) {
    yield { type: "user", message: { role: "user", content: line }, parent_tool_use_id: null };
  }
}

const running = query({
  prompt: messages(),
  options: {
    settingSources: ["project"],
    systemPrompt: { type: "preset", preset: "claude_code" },
    includePartialMessages: true,
    permissionMode: "bypassPermissions",
    allowDangerouslySkipPermissions: true,
  },
});
for await (const message of running) {
  if (message.type === "stream_event" && message.event.type === "content_block_delta") process.stdout.write("text\n");
  if (message.type === "result") process.stdout.write("end\n");
}
