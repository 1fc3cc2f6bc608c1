/** Why the proxy does not pass a request on. The agent reads these words, so they say what is allowed. */
import type { ServerResponse } from "node:http";

/**
 * Reasons, as they stand in the header x-modal-sb-reason and in the audit log. The statuses are chosen for what claude
 * does with them: a 401 would be retried for three minutes, a 404 would read as a wrong model. 429 and 503 are for what
 * waiting can mend.
 */
export const refusals = {
  /** no, bad, unknown, expired or revoked key: the same answer for all */
  sandbox_key_refused: { status: 403, type: "permission_error" },
  path_not_allowed: { status: 403, type: "permission_error" },
  method_not_allowed: { status: 403, type: "permission_error" },
  /** the grant of this sandbox does not name the upstream */
  upstream_not_granted: { status: 403, type: "permission_error" },
  repository_not_granted: { status: 403, type: "permission_error" },
  model_not_allowed: { status: 403, type: "permission_error" },
  output_limit: { status: 403, type: "permission_error" },
  /** a tool, source, field or beta that would reach out of the sandbox through the API */
  feature_not_allowed: { status: 403, type: "permission_error" },
  /** what is left of the budget is less than the request could cost */
  budget_exceeded: { status: 403, type: "permission_error" },
  /** not HTTP as this proxy takes it, or a body that is not what the path wants */
  bad_request: { status: 400, type: "invalid_request_error" },
  body_too_large: { status: 413, type: "request_too_large" },
  rate_limited: { status: 429, type: "rate_limit_error" },
  too_many_streams: { status: 429, type: "rate_limit_error" },
  /** nothing is passed on that could not be accounted for; claude waits and tries again */
  audit_unwritable: { status: 503, type: "overloaded_error" },
  /** the proxy ends when its running requests have */
  stopping: { status: 503, type: "overloaded_error" },
  upstream_unreachable: { status: 502, type: "api_error" },
  /** redirects are neither followed nor passed on where they could carry the credential or the data elsewhere */
  upstream_redirect: { status: 502, type: "api_error" },
  /** a compressed answer can be neither scrubbed nor accounted for */
  upstream_encoded: { status: 502, type: "api_error" },
} as const;

export type Reason = keyof typeof refusals;

export interface Refusal {
  reason: Reason;
  message: string;
  /** seconds after which it is worth trying again */
  retryAfter?: number;
}

/** The error shape that an upstream's own clients read; `git` is asked for its key by a challenge. */
export type RefusalStyle = "anthropic" | "github" | "git" | "huggingface" | "plain";

/** Answers in the upstream's own error shape, and ends the connection: what stands behind a refused request is not read. */
export function sendRefusal(response: ServerResponse, refusal: Refusal, style: RefusalStyle): void {
  const { reason, message, retryAfter } = refusal;
  const { status, type } = refusals[reason];
  const text = `modal-sb proxy: ${message}`;
  // git sends its key only when it is asked
  const isChallenge = style === "git" && reason === "sandbox_key_refused";
  const isPlain = style === "git" || style === "plain";
  const body = isPlain
    ? `${text}\n`
    : JSON.stringify(style === "anthropic" ? { type: "error", error: { type, message: text } } : errorOf(style, text));
  response.shouldKeepAlive = false;
  response.writeHead(isChallenge ? 401 : status, {
    "content-type": isPlain ? "text/plain; charset=utf-8" : "application/json",
    "content-length": Buffer.byteLength(body),
    "x-modal-sb-reason": reason,
    ...(isChallenge && { "www-authenticate": 'Basic realm="modal-sb"' }),
    ...(status === 403 && { "x-should-retry": "false" }),
    ...(status === 503 && { "retry-after": "2" }),
    ...(retryAfter !== undefined && { "retry-after": String(retryAfter) }),
    ...(style === "huggingface" && { "x-error-message": text.replace(/[^\x20-\x7e]/g, "?") }),
  });
  response.end(body);
}

function errorOf(style: "github" | "huggingface", text: string): object {
  return style === "github" ? { message: text } : { error: text };
}
