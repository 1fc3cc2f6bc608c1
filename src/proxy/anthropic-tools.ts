/** Every tool that a request of the Messages API declares: in its field `tools`, and by value in `system` and `messages`. */

type Fields = Readonly<Record<string, unknown>>;

/**
 * The declarations, as they came. Outside `tools` one stands in the field `definition` of a `tool_addition` block, or of a
 * change that a `compaction` block lists; wherever one stands, it counts. undefined: `tools` is no list.
 */
export function toolsOf(body: Fields): Fields[] | undefined {
  const declared = body["tools"] ?? [];
  if (!Array.isArray(declared)) return undefined;
  const tools = declared.map(recordOf);
  collectDefinitions([body["system"], body["messages"]], tools);
  return tools;
}

function collectDefinitions(value: unknown, tools: Fields[]): void {
  if (typeof value !== "object" || value === null) return;
  if (Array.isArray(value)) {
    for (const item of value) collectDefinitions(item, tools);
    return;
  }
  for (const [name, inner] of Object.entries(value)) {
    if (name === "definition") {
      tools.push(
        ...[inner]
          .flat(Number.POSITIVE_INFINITY)
          .flatMap((each) => (typeof each === "object" && each !== null ? [recordOf(each)] : [])),
      );
    }
    // what a tool is called with, and the schema of that, declare nothing to the API
    if (name !== "input" && name !== "input_schema") collectDefinitions(inner, tools);
  }
}

/** What is no object has a type that no list knows. */
function recordOf(value: unknown): Fields {
  const isRecord = typeof value === "object" && value !== null && !Array.isArray(value);
  return isRecord ? (value as Fields) : { type: "no_object" };
}
