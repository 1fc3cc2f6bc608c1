/**
 * Every beta, body field and tool of the Messages API that is known, in one of three lists: what passes, what a named
 * grant opens, and what is refused on purpose, some of it whatever the grant says. A test collects the names in the pinned claude program, in the types of
 * the official SDKs and in requests that claude sends, and fails for a name that is in no list.
 *
 * Names of betas and tools are written without their dates.
 */

/**
 * Features by the name under which a grant opens them. A grant can also open one name by hand: `field:<name>`,
 * `tool:<type>` and `beta:<name>`; a `*` at the end stands for any ending.
 */
export const features = {
  web_search: "the server's web search: queries leave the sandbox",
  web_fetch: "the server's web fetch: any address that the agent writes is called",
  code_execution: "the server's code execution and its containers",
  mcp: "MCP servers that the API calls for the agent",
  files: "files of the account, by id",
  url_sources: "images and documents that the API fetches from an address",
  skills: "skills of the account",
} as const;

export type Feature = keyof typeof features;

/** What is known of one name. */
export type Rule =
  /** passes; the reason says what it does */
  | { passes: string }
  /** a grant opens it by this name */
  | { opens: Feature }
  /** refused until the user allows this very name, because of this */
  | { refused: string }
  /** refused whatever the grant says: no limit of the proxy would hold */
  | { never: string; errorCode: string };

const otherPaths = "it belongs to paths of the API that the proxy does not pass";
const costsMore = "it costs more than the budget counts";
const otherModel = "another model may answer, which neither the budget nor the granted models cover";
const otherParty = "it acts for another party than the account";
const keptAtApi = "the API goes on from an answer that it keeps, which the budget could not count";
/** what the clients of threads look for, and then go on without them */
const thread: Rule = {
  never: "the conversation would be kept at the API, and the budget could not count what is sent",
  errorCode: "thread_unsupported_request",
};

const passing = (reason: string, names: readonly string[]) =>
  Object.fromEntries(names.map((name): [string, Rule] => [name, { passes: reason }]));
const opening = (feature: Feature, names: readonly string[]) =>
  Object.fromEntries(names.map((name): [string, Rule] => [name, { opens: feature }]));
const refusing = (reason: string, names: readonly string[]) =>
  Object.fromEntries(names.map((name): [string, Rule] => [name, { refused: reason }]));

export const betaRules: Readonly<Record<string, Rule>> = {
  ...passing("marks where a request comes from", [
    "claude-code",
    "claude-code-side-query",
    "request-tags",
    "tool-provenance",
  ]),
  ...passing("changes how the model thinks and how that is shown", [
    "interleaved-thinking",
    "redact-thinking",
    "thinking-token-count",
    "thinking-display-updates",
    "thinking-resumption",
    "thinking-binding-controls",
    "dev-full-thinking",
    "effort",
    "per-turn-control",
  ]),
  ...passing("changes how a long conversation is kept within the context window", [
    "context-management",
    "context-hint",
    "context-1m",
    "compact",
    "model-context-window-exceeded",
    "mid-conversation-system",
    "mid-conversation-system-clear-at",
    "mid-conversation-tool-changes",
    "mid-conversation-output-config",
  ]),
  ...passing("a request that is repeated for another model is charged less", ["fallback-credit"]),
  ...passing("changes how tools of the client are declared and called", [
    "fine-grained-tool-streaming",
    "token-efficient-tools",
    "advanced-tool-use",
    "tool-search-tool",
    "tool-examples",
    "inline-tools",
    "computer-use",
  ]),
  ...passing("the API judges the tools that its own answer calls", [
    "dangerous-tool-use",
    "afk-mode",
    "auto-mode-classifier",
  ]),
  ...passing("changes the form of the answer", [
    "structured-outputs",
    "output-128k",
    "output-300k",
    "max-tokens-3-5-sonnet",
    "task-budgets",
    "search-results",
    "pdfs",
    "timing",
  ]),
  ...passing("changes what the API keeps in its cache; the answer's figures say what that cost", [
    "prompt-caching",
    "prompt-caching-scope",
    "prompt-caching-evict",
    "extended-cache-ttl",
    "cache-diagnosis",
    "cache-keepalive",
  ]),
  ...passing("counts tokens", ["token-counting"]),
  ...opening("web_search", ["web-search", "web-search-results-only"]),
  ...opening("web_fetch", ["web-fetch"]),
  ...opening("code_execution", ["code-execution"]),
  ...opening("mcp", ["mcp-client"]),
  ...opening("files", ["files-api"]),
  ...opening("skills", ["skills"]),
  ...refusing(costsMore, ["fast-mode"]),
  ...refusing(keptAtApi, ["resumption"]),
  ...refusing(otherModel, ["server-side-fallback", "advisor-tool"]),
  ...refusing(otherParty, ["user-profiles", "user-profiles-billing", "program-use-case-ids"]),
  ...refusing("it belongs to a login at claude.ai, which no sandbox has", ["oauth", "oidc-federation"]),
  ...refusing(otherPaths, [
    "managed-agents",
    "agent-memory",
    "dreaming",
    "environments",
    "message-batches",
    "mcp-servers",
    "mcp-tunnels",
    "ccr-byoc",
    "ccr-triggers",
    "ce-plugins",
    "ce-user-management",
    "ce-claude-code-managed-settings",
    "spend-limit-reads",
    "telemetry-destinations",
    "webhooks",
    "admin-user-sign-out",
    "analytics-usage-cost",
    "experimental-claude-tag",
    "efs",
    "google-managed-data-controls",
  ]),
  "message-threads": thread,
};

export const fieldRules: Readonly<Record<string, Rule>> = {
  ...passing("the conversation, and what the model is told about it", ["messages", "system", "tools", "tool_choice"]),
  ...passing("how the model answers", [
    "model",
    "max_tokens",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "stop_sequences",
    "thinking",
    "output_config",
    "output_format",
    "safeguards",
  ]),
  ...passing("how a long conversation is kept within the context window", ["context_management", "compaction"]),
  ...passing("what the API keeps in its cache; the answer's figures say what that cost", [
    "cache_control",
    "diagnostics",
  ]),
  ...passing("a word of the API's own, by which a request that is repeated for another model is charged less", [
    "fallback_credit_token",
  ]),
  ...passing("says who asks, for the account's own records", ["metadata"]),
  ...passing("which of the capacity that the account has paid for is used", ["service_tier"]),
  ...opening("code_execution", ["container"]),
  ...opening("mcp", ["mcp_servers"]),
  ...refusing(costsMore, ["speed", "inference_geo"]),
  ...refusing(keptAtApi, ["resumption"]),
  ...refusing(otherModel, ["fallbacks"]),
  ...refusing(otherParty, ["billing_policy", "user_profile_id", "workspace_id", "program_use_case_id"]),
  thread,
};

/** Values of a refused field that ask for nothing, beside null. */
export const harmlessValues: Readonly<Record<string, unknown>> = { speed: "standard" };

export const toolRules: Readonly<Record<string, Rule>> = {
  ...passing("the client runs it", [
    "custom",
    "bash",
    "text_editor",
    "computer",
    "computer_toolset",
    "browser_toolset",
    "memory",
  ]),
  ...passing("searches among the request's own tools", ["tool_search_tool_regex", "tool_search_tool_bm25"]),
  ...opening("web_search", ["web_search"]),
  ...opening("web_fetch", ["web_fetch"]),
  ...opening("code_execution", ["code_execution"]),
  ...opening("mcp", ["mcp_toolset"]),
  ...refusing(otherModel, ["advisor"]),
};

/** Whether an entry of a grant's `allow` can open anything. */
export function canAllow(entry: string): boolean {
  if (Object.hasOwn(features, entry)) return true;
  const [, kind = "", name = ""] = /^(beta|field|tool):([\w.-]+\*?|\*)$/.exec(entry) ?? [];
  const rule = ruleOf({ beta: betaRules, field: fieldRules, tool: toolRules }[kind] ?? {}, name.replace(/\*$/, ""));
  return kind !== "" && !(rule && "never" in rule);
}

/** The rule for a name as it comes, with its date or without. */
export function ruleOf(rules: Readonly<Record<string, Rule>>, name: string): Rule | undefined {
  const undated = undatedName(name);
  return Object.hasOwn(rules, undated) ? rules[undated] : undefined;
}

/** As the lists have it: they hold for a name of any date. */
export function undatedName(name: string): string {
  return name.replace(/[-_]20\d\d-?\d\d-?\d\d$/, "");
}
