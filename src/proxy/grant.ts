/** What the host gives a sandbox: who it is, until when, where to, and how much. */

export interface AnthropicGrant {
  /** model ids, a `*` at the end stands for any ending; undefined: all */
  models?: readonly string[];
  /** highest `max_tokens` of a request; undefined: none */
  maxOutputTokens?: number;
  /** what may reach out of the sandbox through the API, see anthropic-policy.ts; undefined: nothing */
  allow?: readonly string[];
}

export interface GitHubGrant {
  /** access by "owner/name" in lower case */
  repositories: Readonly<Record<string, "read" | "write">>;
  /** GraphQL cannot be limited to a repository: it opens whatever the token opens */
  graphql?: boolean;
}

export interface HuggingFaceGrant {
  /** "owner/name", "datasets/owner/name", "spaces/owner/name"; undefined: all that the token may read */
  repositories?: readonly string[];
}

/** All are counted for the grant's account, and none has a default. */
export interface Limits {
  requestsPerMinute?: number;
  concurrentRequests?: number;
  /** from the cache or not */
  inputTokens?: number;
  outputTokens?: number;
  usd?: number;
}

export interface Grant {
  sandboxId: string;
  /** SHA-256 of the token, 64 hex digits */
  tokenHash: string;
  /** milliseconds since 1970 */
  expiresAt: number;
  /** whose spending this is: sandboxes that follow each other in a session share it */
  account: string;
  /** by the upstream's name */
  upstreams: Readonly<Record<string, object>> & {
    anthropic?: AnthropicGrant;
    github?: GitHubGrant;
    huggingface?: HuggingFaceGrant;
  };
  limits: Limits;
}

/** What `change` can change in a grant that is in force. */
export type GrantChange = Partial<Pick<Grant, "expiresAt" | "upstreams" | "limits">>;

type Fields = Readonly<Record<string, unknown>>;

/** Reads a whole grant. Throws an Error that names the field. */
export function parseGrant(fields: Fields): Grant {
  const { sandboxId, tokenHash, account = sandboxId } = fields;
  check(isWord(sandboxId, /^[A-Za-z0-9_-]{1,128}$/), "sandboxId", "an id");
  check(isWord(tokenHash, /^[0-9a-f]{64}$/), "tokenHash", "64 hex digits");
  check(isWord(account, /^.{1,200}$/), "account", "a name");
  check(fields["expiresAt"] !== undefined && fields["upstreams"] !== undefined, "expiresAt and upstreams", "there");
  const change = parseGrantChange(fields);
  return { sandboxId, tokenHash, account, limits: {}, ...change } as Grant;
}

/** Reads what of a grant shall change. Throws an Error that names the field. */
export function parseGrantChange(fields: Fields): GrantChange {
  const { expiresAt, upstreams, limits } = fields;
  const change: Record<string, unknown> = {};
  if (expiresAt !== undefined) {
    check(isAmount(expiresAt), "expiresAt", "a time in milliseconds");
    change["expiresAt"] = expiresAt;
  }
  if (upstreams !== undefined) {
    check(isRecord(upstreams) && Object.values(upstreams).every(isRecord), "upstreams", "an object of objects");
    checkUpstreams(upstreams as Record<string, Fields>);
    change["upstreams"] = upstreams;
  }
  if (limits !== undefined) {
    check(isRecord(limits), "limits", "an object");
    for (const [name, value] of Object.entries(limits as Fields)) {
      check(limitNames.has(name), `limits.${name}`, `one of ${[...limitNames].join(", ")}`);
      check(isAmount(value), `limits.${name}`, "a number that is not negative");
    }
    change["limits"] = limits;
  }
  return change;
}

const limitNames = new Set(["requestsPerMinute", "concurrentRequests", "inputTokens", "outputTokens", "usd"]);

function checkUpstreams({ anthropic = {}, github, huggingface = {} }: Record<string, Fields>): void {
  const { models, maxOutputTokens, allow } = anthropic;
  check(isWords(models), "upstreams.anthropic.models", "a list of words");
  check(isWords(allow), "upstreams.anthropic.allow", "a list of words");
  check(maxOutputTokens === undefined || isAmount(maxOutputTokens), "upstreams.anthropic.maxOutputTokens", "a number");
  check(isWords(huggingface["repositories"]), "upstreams.huggingface.repositories", "a list of words");
  if (!github) return;
  const { repositories } = github;
  const isMap =
    isRecord(repositories) &&
    Object.entries(repositories).every(
      ([name, access]) => isRepository(name) && (access === "read" || access === "write"),
    );
  check(isMap, "upstreams.github.repositories", '"read" or "write" by "owner/name" in lower case');
}

function isRepository(name: string): boolean {
  return /^[a-z0-9][a-z0-9-]*\/[a-z0-9._-]+$/.test(name) && !/\/\.{1,2}$/.test(name);
}

function isRecord(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isWord(value: unknown, pattern: RegExp): value is string {
  return typeof value === "string" && pattern.test(value);
}

function isWords(value: unknown): boolean {
  return value === undefined || (Array.isArray(value) && value.every((word) => isWord(word, /^.{1,200}$/)));
}

function isAmount(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value) && value >= 0;
}

function check(holds: boolean, field: string, what: string): void {
  if (!holds) throw new Error(`${field} must be ${what}`);
}
