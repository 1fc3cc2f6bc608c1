/** The Claude API at "/": messages, their tokens counted, and the list of models. */
import { messageOf } from "../../errors.ts";
import { AnthropicPolicy } from "../anthropic-policy.ts";
import { toolsOf } from "../anthropic-tools.ts";
import { reservationOf } from "../cost.ts";
import type { AnthropicGrant } from "../grant.ts";
import { cacheOf, inputTokensOf, webSearchesOf } from "../input-size.ts";
import type { Prices } from "../prices.ts";
import { parseStrictJson } from "../strict-json.ts";
import {
  type Asked,
  checkedOrigin,
  type Judgement,
  methodRefusal,
  pathRefusal,
  type Upstream,
  withQuery,
} from "./upstream.ts";

/** the API's own limit */
const maxBodyBytes = 32 * 1024 * 1024;

interface Rule {
  method: "GET" | "POST";
  path: RegExp;
  /** what may stand behind the question mark; no query is always allowed */
  query: RegExp;
  name: string;
}

const onlyBeta = /^beta=true$/;
const paging =
  /^(?:beta=true|(?:limit|before_id|after_id)=[\w.-]{1,128})(?:&(?:beta=true|(?:limit|before_id|after_id)=[\w.-]{1,128})){0,3}$/;

const rules: readonly Rule[] = [
  { method: "POST", path: /^\/v1\/messages$/, query: onlyBeta, name: "POST /v1/messages" },
  { method: "POST", path: /^\/v1\/messages\/count_tokens$/, query: onlyBeta, name: "POST /v1/messages/count_tokens" },
  { method: "GET", path: /^\/v1\/models$/, query: paging, name: "GET /v1/models" },
  {
    method: "GET",
    path: /^\/v1\/models\/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$/,
    query: onlyBeta,
    name: "GET /v1/models/<id>",
  },
];
const allowed = rules.map((rule) => rule.name).join(", ");

export function anthropicUpstream(
  origin: string,
  credential: "ANTHROPIC_API_KEY" | "ANTHROPIC_AUTH_TOKEN",
  prices: Prices,
): Upstream {
  return {
    name: "anthropic",
    prefix: "",
    origin: checkedOrigin(origin),
    credential: { name: credential, injection: credential === "ANTHROPIC_API_KEY" ? "x-api-key" : "bearer" },
    style: "anthropic",
    requestHeaders: [
      "anthropic-version",
      "anthropic-beta",
      "anthropic-dangerous-direct-browser-access",
      "x-app",
      "x-claude-code-session-id",
      "x-claude-code-agent-id",
      "x-stainless-*",
    ],
    responseHeaders: ["request-id", "retry-after-ms", "x-should-retry", "anthropic-ratelimit-*"],
    redirects: "refuse",
    maxBodyBytes,
    takesEncodedBodies: false,
    decide(asked, grant) {
      const { method, path, query } = asked;
      const fitting = rules.filter((rule) => rule.path.test(path) && (query === "" || rule.query.test(query)));
      if (fitting.length === 0) return pathRefusal(allowed);
      const rule = fitting.find((candidate) => candidate.method === method);
      if (!rule) return methodRefusal(allowed);
      const access = grant.upstreams.anthropic ?? {};
      const policy = new AnthropicPolicy(access);
      const target = withQuery(path, query);
      if (method === "GET") {
        const refusal = policy.refusalOf(asked.header("anthropic-beta") ?? "");
        return refusal ? { refusal } : { target };
      }
      return { target, judge: (body) => judge(body, asked, access, policy, prices) };
    },
  };
}

function judge(
  bytes: Buffer,
  asked: Asked,
  access: AnthropicGrant,
  policy: AnthropicPolicy,
  prices: Prices,
): Judgement {
  let body: unknown;
  try {
    body = parseStrictJson(bytes);
  } catch (error) {
    return bad(messageOf(error));
  }
  if (typeof body !== "object" || body === null || Array.isArray(body)) return bad("the body is not a JSON object");
  const fields = body as Readonly<Record<string, unknown>>;
  const { model } = fields;
  if (typeof model !== "string" || !/^[\w.:@/[\]-]{1,200}$/.test(model)) return bad('"model" is not a model id');
  const refusal = ofModel(model, access) ?? policy.refusalOf(asked.header("anthropic-beta") ?? "", fields);
  if (refusal) return { refusal };
  return asked.path === "/v1/messages" ? reserve(bytes, { ...fields, model }, access, prices) : {};
}

function reserve(
  bytes: Buffer,
  fields: Readonly<Record<string, unknown>> & { model: string },
  { maxOutputTokens = Number.POSITIVE_INFINITY }: AnthropicGrant,
  prices: Prices,
): Judgement {
  const { model, max_tokens: outputTokens } = fields;
  if (typeof outputTokens !== "number" || !Number.isSafeInteger(outputTokens) || outputTokens < 0) {
    return bad('"max_tokens" is not a count of tokens');
  }
  if (outputTokens > maxOutputTokens) {
    const message = `max_tokens is ${outputTokens}, and at most ${maxOutputTokens} are allowed; ask for fewer`;
    return { refusal: { reason: "output_limit", message } };
  }
  const { price, isKnown } = prices.of(model);
  const reservation = reservationOf(
    {
      model,
      inputTokens: inputTokensOf(bytes, fields),
      outputTokens,
      webSearches: webSearchesOf(toolsOf(fields) ?? []),
      cache: cacheOf(bytes, fields),
    },
    price,
  );
  if (isKnown) return { reservation };
  return { reservation, warning: `The price of the model "${model}" is not known: it counts as the dearest` };
}

function ofModel(model: string, { models }: AnthropicGrant) {
  const fits = (name: string) => (name.endsWith("*") ? model.startsWith(name.slice(0, -1)) : model === name);
  if (!models || models.some(fits)) return undefined;
  return {
    reason: "model_not_allowed" as const,
    message: `the model "${model}" is not allowed; allowed are ${models.join(", ")}`,
  };
}

function bad(message: string): Judgement {
  return { refusal: { reason: "bad_request", message } };
}
