/** Why the proxy does not pass a request on. The agent reads these words, so they say what is allowed. */
import type { ServerResponse } from "node:http";

/**
 * Reasons, as they stand in the header x-modal-sb-reason and in the audit log. The statuses are chosen for what claude
 * does with them: a 401 would be retried for three minutes, a 404 would read as a wrong model.
 */
export const refusals = {
  /** no, bad, unknown, expired or revoked key: told apart in the audit log only */
  sandbox_key_refused: { status: 403, type: "permission_error" },
  path_not_allowed: { status: 403, type: "permission_error" },
  method_not_allowed: { status: 403, type: "permission_error" },
  /** the grant of this sandbox does not name the upstream */
  upstream_not_granted: { status: 403, type: "permission_error" },
  /** nothing is passed on that could not be accounted for; claude waits and tries again */
  audit_unwritable: { status: 503, type: "overloaded_error" },
  upstream_unreachable: { status: 502, type: "api_error" },
  /** redirects are neither followed nor passed on: they would carry the credential elsewhere */
  upstream_redirect: { status: 502, type: "api_error" },
  /** a compressed answer can be neither scrubbed nor accounted for */
  upstream_encoded: { status: 502, type: "api_error" },
} as const;

export type Reason = keyof typeof refusals;

export interface Refusal {
  reason: Reason;
  message: string;
}

/** Answers in the upstream's own error shape. */
export function sendRefusal(response: ServerResponse, { reason, message }: Refusal): void {
  const { status, type } = refusals[reason];
  const body = JSON.stringify({ type: "error", error: { type, message: `modal-sb proxy: ${message}` } });
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(body),
    "x-modal-sb-reason": reason,
    ...(status === 403 && { "x-should-retry": "false" }),
    ...(status === 503 && { "retry-after": "2" }),
  });
  response.end(body);
}
