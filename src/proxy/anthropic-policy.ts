/**
 * What a request may ask of the Messages API. The API is itself a way out of the sandbox: it can search and fetch for
 * the agent, call other servers, run code elsewhere and read the account's files. What reaches out is refused unless the
 * grant allows it; so is what this proxy does not know.
 */
import type { AnthropicGrant } from "./grant.ts";
import type { Refusal } from "./refusal.ts";

/**
 * Features by the name under which a grant allows them. Beyond these, a grant can allow by hand `field:<name>`,
 * `tool:<type>` and `beta:<name>`; a `*` at the end stands for any ending.
 */
const features = {
  web_search: "the server's web search: queries leave the sandbox",
  web_fetch: "the server's web fetch: any address that the agent writes is called",
  code_execution: "the server's code execution and its containers",
  mcp: "MCP servers that the API calls for the agent",
  files: "files of the account, by id",
  url_sources: "images and documents that the API fetches from an address",
  skills: "skills of the account",
} as const;

type Feature = keyof typeof features;

/** Fields of a request that stay within it. */
const plainFields = new Set([
  "model",
  "messages",
  "max_tokens",
  "system",
  "tools",
  "tool_choice",
  "stream",
  "temperature",
  "top_p",
  "top_k",
  "stop_sequences",
  "metadata",
  "thinking",
  "service_tier",
  "context_management",
  "output_config",
  "output_format",
  "cache_control",
]);
const fieldFeatures: Readonly<Record<string, Feature>> = { mcp_servers: "mcp", container: "code_execution" };

/** Tools that the client runs, and the search among tools, which reaches nothing else. */
const plainTool =
  /^(?:custom|(?:bash|text_editor|computer|memory)_20\d{6}|tool_search_tool_(?:regex|bm25)(?:_20\d{6})?)$/;
const toolFeature = /^(web_search|web_fetch|code_execution|mcp)(?:_20\d{6}|_toolset)$/;

/** Betas that change how the model or the stream behaves, without their dates. */
const plainBetas = new Set([
  "claude-code",
  "interleaved-thinking",
  "redact-thinking",
  "thinking-token-count",
  "thinking-display-updates",
  "thinking-resumption",
  "thinking-binding-controls",
  "resumption",
  "context-management",
  "context-hint",
  "context-1m",
  "compact",
  "effort",
  "task-budgets",
  "per-turn-control",
  "mid-conversation-system",
  "mid-conversation-system-clear-at",
  "mid-conversation-tool-changes",
  "fine-grained-tool-streaming",
  "token-efficient-tools",
  "structured-outputs",
  "advanced-tool-use",
  "tool-search-tool",
  "tool-examples",
  "tool-provenance",
  "inline-tools",
  "dangerous-tool-use",
  "computer-use",
  "prompt-caching",
  "prompt-caching-scope",
  "prompt-caching-evict",
  "extended-cache-ttl",
  "cache-diagnosis",
  "cache-keepalive",
  "token-counting",
  "max-tokens-3-5-sonnet",
  "output-128k",
  "pdfs",
  "timing",
  "request-tags",
  "claude-code-side-query",
]);
const betaFeatures: readonly (readonly [beta: RegExp, feature: Feature])[] = [
  [/^web-search/, "web_search"],
  [/^web-fetch/, "web_fetch"],
  [/^code-execution/, "code_execution"],
  [/^mcp-/, "mcp"],
  [/^files-api$/, "files"],
  [/^skills$/, "skills"],
];

type Refuse = Refusal | undefined;

export class AnthropicPolicy {
  readonly #allowed: readonly string[];

  constructor(grant: AnthropicGrant) {
    this.#allowed = grant.allow ?? [];
  }

  /** Judges the header anthropic-beta: names with dates, separated by commas. */
  ofBetas(header: string): Refuse {
    for (const word of header.split(",")) {
      const beta = word.trim();
      const name = beta.replace(/-20\d\d-?\d\d-?\d\d$/, "");
      const feature = betaFeatures.find(([pattern]) => pattern.test(name))?.[1];
      if (beta === "" || plainBetas.has(name) || this.#allows(`beta:${beta}`)) continue;
      if (feature && this.#allows(feature)) continue;
      return refused(`the beta ${printable(beta)}`, feature ?? `beta:${printable(beta)}`);
    }
    return undefined;
  }

  /** Judges a body: the fields, the tools, and where the content comes from. */
  ofBody(body: Readonly<Record<string, unknown>>): Refuse {
    return this.#ofFields(body) ?? this.#ofTools(body["tools"]) ?? this.#ofContents(body);
  }

  #ofFields(body: Readonly<Record<string, unknown>>): Refuse {
    for (const field of Object.keys(body)) {
      const feature = fieldFeatures[field];
      if (plainFields.has(field) || this.#allows(`field:${field}`) || (feature && this.#allows(feature))) continue;
      return refused(`the field ${printable(field)}`, feature ?? `field:${printable(field)}`);
    }
    return undefined;
  }

  #ofTools(tools: unknown): Refuse {
    if (tools === undefined) return undefined;
    if (!Array.isArray(tools)) return { reason: "bad_request", message: '"tools" is not a list' };
    for (const tool of tools) {
      const type = recordOf(tool)["type"] ?? "custom";
      if (typeof type !== "string") return { reason: "bad_request", message: "a tool's type is not a word" };
      const feature = toolFeature.exec(type)?.[1] as Feature | undefined;
      if (plainTool.test(type) || this.#allows(`tool:${type}`) || (feature && this.#allows(feature))) continue;
      return refused(`the tool ${printable(type)}`, feature ?? `tool:${printable(type)}`);
    }
    return undefined;
  }

  #ofContents(body: Readonly<Record<string, unknown>>): Refuse {
    const messages = Array.isArray(body["messages"]) ? body["messages"] : [];
    for (const content of [body["system"], ...messages.map((message) => recordOf(message)["content"])]) {
      const refusal = this.#ofContent(content);
      if (refusal) return refusal;
    }
    return undefined;
  }

  /** Blocks, and the blocks within them. What a tool was called with is the agent's own, and means nothing to the API. */
  #ofContent(content: unknown): Refuse {
    if (typeof content !== "object" || content === null) return undefined;
    for (const block of Array.isArray(content) ? content : [content]) {
      const { source, file_id, url, content: inner, type } = recordOf(block);
      const feature = featureOfSource(source) ?? (file_id === undefined ? undefined : "files");
      if (feature && !this.#allows(feature)) return refused(`content of the kind ${feature}`, feature);
      // results that the server's own tools gave in earlier turns name the pages they came from
      const isResult = typeof type === "string" && type.endsWith("_result");
      if (url !== undefined && !isResult && !this.#allows("url_sources")) {
        return refused("a block with an address", "url_sources");
      }
      const refusal = this.#ofContent(recordOf(source)["content"]) ?? this.#ofContent(inner);
      if (refusal) return refusal;
    }
    return undefined;
  }

  #allows(name: string): boolean {
    return this.#allowed.some((allowed) =>
      allowed.endsWith("*") ? name.startsWith(allowed.slice(0, -1)) : name === allowed,
    );
  }
}

/** Text and base64 come with the request; everything else would be fetched. */
function featureOfSource(source: unknown): Feature | undefined {
  if (typeof source !== "object" || source === null) return undefined;
  const { type } = source as { type?: unknown };
  if (type === "base64" || type === "text" || type === "content") return undefined;
  return type === "file" ? "files" : "url_sources";
}

function refused(what: string, allowedBy: string): Refusal {
  return {
    reason: "feature_not_allowed",
    message:
      `${what} is not allowed: it could carry data out of the sandbox or is not known. ` +
      `Do without it; the user can allow it with the setting anthropicAllow: ["${allowedBy}"]`,
  };
}

function recordOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

/** A word of the request as it may stand in an answer. */
function printable(word: string): string {
  return word.slice(0, 80).replace(/[^\w.:-]/g, "?");
}
