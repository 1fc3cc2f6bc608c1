/** Which requests an upstream takes, as pure functions on the raw request line: nothing is decoded or resolved. */
import type { Refusal } from "./refusal.ts";

/** One allowed kind of request. */
export interface Rule {
  method: "GET" | "POST";
  path: RegExp;
  /** what may stand behind the question mark; no query is always allowed */
  query: RegExp;
  /** for the refusal's words */
  name: string;
}

const onlyBeta = /^beta=true$/;
const paging = /^(?:limit|before_id|after_id)=[\w.-]{1,128}(?:&(?:limit|before_id|after_id)=[\w.-]{1,128}){0,2}$/;

/** The Messages API and what clients ask beside it. */
export const anthropicRules: readonly Rule[] = [
  { method: "POST", path: /^\/v1\/messages$/, query: onlyBeta, name: "POST /v1/messages" },
  { method: "POST", path: /^\/v1\/messages\/count_tokens$/, query: onlyBeta, name: "POST /v1/messages/count_tokens" },
  { method: "GET", path: /^\/v1\/models$/, query: paging, name: "GET /v1/models" },
  {
    method: "GET",
    path: /^\/v1\/models\/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$/,
    query: /^$/,
    name: "GET /v1/models/<id>",
  },
];

/** Splits a request target, e.g. "/v1/messages?beta=true". */
export function splitTarget(target: string): { path: string; query: string } {
  const mark = target.indexOf("?");
  return mark === -1 ? { path: target, query: "" } : { path: target.slice(0, mark), query: target.slice(mark + 1) };
}

/** undefined when a rule allows the request. */
export function refusalOf(rules: readonly Rule[], method: string, target: string): Refusal | undefined {
  const { path, query } = splitTarget(target);
  const fitting = rules.filter((rule) => rule.path.test(path) && (query === "" || rule.query.test(query)));
  if (fitting.some((rule) => rule.method === method)) return undefined;
  const allowed = `allowed are ${rules.map((rule) => rule.name).join(", ")}`;
  return fitting.length > 0
    ? { reason: "method_not_allowed", message: `this method is not allowed on this path; ${allowed}` }
    : { reason: "path_not_allowed", message: `this path or query is not allowed; ${allowed}` };
}
