/** Why the proxy does not pass a request on. The agent reads these words, so they say what is allowed. */
import type { ServerResponse } from "node:http";

/** A request that the grant does not cover. */
const denied = { status: 403, anthropic: 406, type: "permission_error" } as const;

/**
 * Reasons, as they stand in the header x-modal-sb-reason, in the audit log, and in `error.details.error_code` of the
 * Claude API's error shape, from where claude hands them on as a field.
 *
 * `status` is the answer's; `anthropic` and `huggingface` are those for the clients of these APIs, where they are others. They
 * were chosen by what claude 2.1.330, the official SDKs, git, gh and huggingface_hub make of each. claude says "Failed to
 * authenticate" before the words of a 401 or 403, reads a 404 as a wrong model, and repeats a 400 or 422 up to five times,
 * each time without one more of its betas. Other statuses of the 400s it shows once, as they are. A 401 makes git and
 * gh ask for another login. huggingface_hub shows the words of a 400 alone, and adds advice about the token to a 403.
 */
const refusals = {
  /** no key came: git asks without one first */
  sandbox_key_missing: { ...denied, type: "authentication_error" },
  /** bad, unknown, expired or revoked key: the same answer for all */
  sandbox_key_refused: { ...denied, type: "authentication_error" },
  path_not_allowed: { ...denied, huggingface: 400 },
  method_not_allowed: { ...denied, huggingface: 400 },
  /** the grant of this sandbox does not name the upstream */
  upstream_not_granted: denied,
  repository_not_granted: denied,
  model_not_allowed: denied,
  output_limit: denied,
  /** a tool or source that would reach out of the sandbox through the API */
  feature_not_allowed: denied,
  /** a beta or field, in the API's own words for one that it does not know: claude goes on without a beta */
  input_not_allowed: { status: 400, type: "invalid_request_error" },
  /** what is left of the budget is less than the request could cost */
  budget_exceeded: { ...denied, anthropic: 402, type: "billing_error" },
  /** not HTTP as this proxy takes it, or a body that is not what the path wants: no official client sends it */
  bad_request: { status: 400, type: "invalid_request_error" },
  body_too_large: { status: 413, type: "request_too_large" },
  rate_limited: { status: 429, type: "rate_limit_error", canRetry: true },
  too_many_streams: { status: 429, type: "rate_limit_error", canRetry: true },
  /** nothing is passed on that could not be accounted for; claude waits and tries again */
  audit_unwritable: { status: 503, type: "overloaded_error", canRetry: true },
  /** the proxy ends when its running requests have */
  stopping: { status: 503, type: "overloaded_error", canRetry: true },
  upstream_unreachable: { status: 502, type: "api_error", canRetry: true },
  /** redirects are neither followed nor passed on where they could carry the credential or the data elsewhere */
  upstream_redirect: { status: 502, type: "api_error" },
  /** a compressed answer can be neither scrubbed nor accounted for */
  upstream_encoded: { status: 502, type: "api_error" },
} as const satisfies Readonly<Record<string, Treatment>>;

interface Treatment {
  status: number;
  anthropic?: number;
  huggingface?: number;
  /** of the error in the Claude API's shape */
  type: string;
  /** waiting can mend it */
  canRetry?: boolean;
}

export type Reason = keyof typeof refusals;

export const reasons = Object.keys(refusals) as readonly Reason[];

export interface Refusal {
  reason: Reason;
  message: string;
  /** said before the message, because clients of the upstream look for just these words */
  apiWords?: string;
  /** in `error.details.error_code` in place of the reason, because clients of the upstream look for just this code */
  errorCode?: string;
  /** seconds after which it is worth trying again */
  retryAfter?: number;
}

/** The error shape that an upstream's own clients read; `git` is asked for its key by a challenge. */
export type RefusalStyle = "anthropic" | "github" | "git" | "huggingface" | "plain";

/** The status with which clients of this kind are refused. */
export function statusOf(reason: Reason, style: RefusalStyle): number {
  // git sends its key only when it is asked
  if (style === "git" && reason === "sandbox_key_missing") return 401;
  const treatment: Treatment = refusals[reason];
  return (style === "anthropic" || style === "huggingface" ? treatment[style] : undefined) ?? treatment.status;
}

/** Answers in the upstream's own error shape, and ends the connection: what stands behind a refused request is not read. */
export function sendRefusal(response: ServerResponse, refusal: Refusal, style: RefusalStyle): void {
  const { reason, retryAfter } = refusal;
  const { canRetry = false }: Treatment = refusals[reason];
  const status = statusOf(reason, style);
  const body = bodyOf(refusal, style);
  response.shouldKeepAlive = false;
  response.writeHead(status, {
    "content-type": typeof body === "string" ? "text/plain; charset=utf-8" : "application/json",
    "content-length": Buffer.byteLength(textOf(body)),
    "x-modal-sb-reason": reason,
    ...(status === 401 && { "www-authenticate": 'Basic realm="modal-sb"' }),
    ...(!canRetry && { "x-should-retry": "false" }),
    ...(status === 503 && { "retry-after": "2" }),
    ...(retryAfter !== undefined && { "retry-after": String(retryAfter) }),
    ...(style === "huggingface" && { "x-error-message": wordsOf(refusal).replace(/[^\x20-\x7e]/g, "?") }),
    // otherwise huggingface_hub hides why a download was refused behind advice about the connection and the token
    ...(style === "huggingface" && status === 403 && { "x-error-code": "GatedRepo" }),
  });
  response.end(textOf(body));
}

function wordsOf({ message, apiWords }: Refusal): string {
  return `${apiWords === undefined ? "" : `${apiWords} `}modal-sb proxy: ${message}`;
}

/** A text, or what becomes JSON. */
function bodyOf(refusal: Refusal, style: RefusalStyle): string | object {
  const message = wordsOf(refusal);
  switch (style) {
    case "anthropic": {
      const { reason, errorCode = reason } = refusal;
      return { type: "error", error: { type: refusals[reason].type, message, details: { error_code: errorCode } } };
    }
    case "github":
      return { message };
    case "huggingface":
      return { error: message };
    default:
      return `${message}\n`;
  }
}

function textOf(body: string | object): string {
  return typeof body === "string" ? body : JSON.stringify(body);
}
