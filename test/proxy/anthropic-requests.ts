/** Requests of the Messages API that the policy is asked about, as changes of a plain body. */

const source = (type: string, more: object = {}) => ({
  messages: [{ role: "user", content: [{ type: "image", source: { type, ...more } }] }],
});
const inToolResult = (block: object) => ({
  messages: [{ role: "user", content: [{ type: "tool_result", tool_use_id: "t", content: [block] }] }],
});
const document = (content: unknown) => ({
  messages: [{ role: "user", content: [{ type: "document", source: { type: "content", content } }] }],
});

const hello = { role: "user", content: "hello" };
const addition = (definition: object) => ({ type: "tool_addition", tool: { type: "tool_definition", definition } });
const addedDeeper = (definition: object) => ({
  role: "user",
  content: [{ type: "tool_result", tool_use_id: "t", content: [{ type: "text", text: "x" }, addition(definition)] }],
});

/** Changes of a body, and what would allow them. */
export const reachingOut: [name: string, changes: object, allowedBy: string][] = [
  ["web search", { tools: [{ type: "web_search_20250305", name: "web_search" }] }, "web_search"],
  ["web fetch", { tools: [{ type: "web_fetch_20250910", name: "web_fetch" }] }, "web_fetch"],
  ["code execution", { tools: [{ type: "code_execution_20250825", name: "x" }] }, "code_execution"],
  ["a container", { container: "container_1" }, "code_execution"],
  [
    "a file that code has written",
    {
      messages: [
        {
          role: "assistant",
          content: [
            {
              type: "bash_code_execution_tool_result",
              content: {
                type: "bash_code_execution_result",
                content: [{ type: "bash_code_execution_output", file_id: "f" }],
              },
            },
          ],
        },
      ],
    },
    "code_execution",
  ],
  ["an MCP server", { mcp_servers: [{ type: "url", url: "https://evil.example", name: "x" }] }, "mcp"],
  ["tools of an MCP server", { tools: [{ type: "mcp_toolset", mcp_server_name: "x" }] }, "mcp"],
  ["an image by address", source("url", { url: "https://evil.example/?secret" }), "url_sources"],
  ["an image of the account", source("file", { file_id: "file_1" }), "files"],
  ["a source of an unknown kind", source("telepathy"), "url_sources"],
  [
    "a document by address within a tool's result",
    inToolResult({ type: "document", source: { type: "url", url: "https://evil.example" } }),
    "url_sources",
  ],
  ["a file for a container", inToolResult({ type: "container_upload", file_id: "file_1" }), "files"],
  ["an image by address within a document", document([{ type: "image", source: { type: "url" } }]), "url_sources"],
  ["an image by address in the system prompt", { system: [{ type: "image", source: { type: "url" } }] }, "url_sources"],
  [
    "web search that a message adds",
    { messages: [hello, { role: "system", content: [addition({ type: "web_search_20260318", name: "x" })] }] },
    "web_search",
  ],
  [
    "code execution among the changes of a summary",
    {
      messages: [
        {
          role: "user",
          content: [{ type: "compaction", tool_changes: [addition({ type: "code_execution_20260521" })] }],
        },
      ],
    },
    "code_execution",
  ],
  [
    "an adviser that a message adds",
    { messages: [hello, addedDeeper({ type: "advisor_20260301" })] },
    "tool:advisor_20260301",
  ],
  [
    "web fetch in a list of definitions",
    {
      messages: [
        hello,
        { role: "system", content: [{ type: "tool_addition", definition: [{ type: "web_fetch_20260318" }] }] },
      ],
    },
    "web_fetch",
  ],
  [
    "web fetch in a definition within another",
    {
      messages: [
        hello,
        {
          role: "system",
          content: [{ definition: { name: "x", more: { definition: { type: "web_fetch_20260318" } } } }],
        },
      ],
    },
    "web_fetch",
  ],
  ["web fetch in the system prompt", { system: [addition({ type: "web_fetch_20260318" })] }, "web_fetch"],
  ["an unknown field", { teleport: true }, "field:teleport"],
  ["the fast and dear mode", { speed: "fast" }, "field:speed"],
  ["a tool in a list of its own", { tools: [[{ type: "web_search_20250305" }]] }, "tool:no_object"],
  ["a tool that is a word", { tools: ["web_search_20250305"] }, "tool:no_object"],
  ["an unknown tool", { tools: [{ type: "teleport_20270101", name: "x" }] }, "tool:teleport_20270101"],
];

/** What passes. */
export const plain: [name: string, changes: object][] = [
  [
    "tools of the client",
    {
      tools: [
        { name: "Bash", input_schema: {} },
        { type: "custom", name: "x" },
      ],
    },
  ],
  [
    "client tools that the API knows",
    {
      tools: [{ type: "bash_20250124" }, { type: "text_editor_20250728" }, { type: "tool_search_tool_bm25_20251119" }],
    },
  ],
  [
    "a tool of the client that a message adds",
    { messages: [hello, { role: "system", content: [addition({ name: "x", input_schema: { definition: {} } })] }] },
  ],
  [
    "a listing of tools with a parameter called definition",
    {
      messages: [
        hello,
        { role: "user", content: [{ type: "x", tools: [{ input_schema: { definition: { type: "string" } } }] }] },
      ],
    },
  ],
  ["an image in base64", source("base64", { media_type: "image/png", data: "aGVsbG8=" })],
  ["a document as text", { messages: [{ role: "user", content: [{ type: "document", source: { type: "text" } }] }] }],
  [
    "a tool that was called with something like a source",
    {
      messages: [
        {
          role: "assistant",
          content: [{ type: "tool_use", input: { source: { type: "url" }, file_id: 1, url: "x" } }],
        },
      ],
    },
  ],
];
