/**
 * What a request may ask of the Messages API. The API is itself a way out of the sandbox: it can search and fetch for
 * the agent, call other servers, run code elsewhere and read the account's files. What reaches out is refused unless the
 * grant allows it; so is what this proxy does not know.
 */
import {
  betaRules,
  type Feature,
  fieldRules,
  harmlessValues,
  type Rule,
  ruleOf,
  toolRules,
} from "./anthropic-lists.ts";
import type { AnthropicGrant } from "./grant.ts";
import type { Refusal } from "./refusal.ts";

/** One thing of a request that is not allowed. */
interface Finding {
  kind: "beta" | "field" | "tool" | "content";
  name: string;
  /** the entry of `allow` that opens it; undefined: nothing does */
  allowedBy: string | undefined;
  why: string;
  /** what clients look for in the error, when it is not the reason of the refusal */
  errorCode?: string;
}

export class AnthropicPolicy {
  readonly #allowed: readonly string[];

  constructor(grant: AnthropicGrant) {
    this.#allowed = grant.allow ?? [];
  }

  /**
   * Judges the header `anthropic-beta` (names with dates, separated by commas) and the body: its fields, its tools, and
   * where its content comes from. All that is not allowed stands in one refusal, so that it can be allowed at once.
   */
  refusalOf(betas: string, body: Readonly<Record<string, unknown>> = {}): Refusal | undefined {
    const tools = body["tools"] ?? [];
    if (!Array.isArray(tools)) return { reason: "bad_request", message: '"tools" is not a list' };
    const types = tools.map((tool) => recordOf(tool)["type"] ?? "custom");
    if (types.some((type) => typeof type !== "string")) {
      return { reason: "bad_request", message: "a tool's type is not a word" };
    }
    const fields = Object.keys(body).filter((field) => !isHarmless(field, body[field]));
    const findings = [
      ...this.#judge("beta", betaRules, betaNames(betas)),
      ...this.#judge("field", fieldRules, fields),
      ...this.#judge("tool", toolRules, types as string[]),
      ...this.#ofContents(body),
    ];
    return findings.length === 0 ? undefined : refusalOf(findings);
  }

  #judge(kind: "beta" | "field" | "tool", rules: Readonly<Record<string, Rule>>, names: readonly string[]): Finding[] {
    return [...new Set(names)].flatMap((name): Finding[] => {
      const rule = ruleOf(rules, name);
      if (rule && "never" in rule) {
        return [{ kind, name, allowedBy: undefined, why: rule.never, errorCode: rule.errorCode }];
      }
      if ((rule && "passes" in rule) || this.#allows(`${kind}:${name}`)) return [];
      if (!rule) return [{ kind, name, allowedBy: `${kind}:${name}`, why: "it is not known to this proxy" }];
      if ("refused" in rule) return [{ kind, name, allowedBy: `${kind}:${name}`, why: rule.refused }];
      return this.#allows(rule.opens) ? [] : [{ kind, name, ...reachingOut(rule.opens) }];
    });
  }

  #ofContents(body: Readonly<Record<string, unknown>>): Finding[] {
    const messages = Array.isArray(body["messages"]) ? body["messages"] : [];
    const contents = [body["system"], ...messages.map((message) => recordOf(message)["content"])];
    for (const content of contents) {
      const feature = this.#ofContent(content);
      if (feature) return [{ kind: "content", name: `content of the kind ${feature}`, ...reachingOut(feature) }];
    }
    return [];
  }

  /** Blocks, and the blocks within them. What a tool was called with is the agent's own, and means nothing to the API. */
  #ofContent(content: unknown): Feature | undefined {
    if (typeof content !== "object" || content === null) return undefined;
    for (const block of Array.isArray(content) ? content : [content]) {
      const { source, file_id, url, content: inner, type } = recordOf(block);
      const feature = featureOfSource(source) ?? (file_id === undefined ? undefined : "files");
      if (feature && !this.#allows(feature)) return feature;
      // results that the server's own tools gave in earlier turns name the pages they came from
      const isResult = typeof type === "string" && type.endsWith("_result");
      if (url !== undefined && !isResult && !this.#allows("url_sources")) return "url_sources";
      const within = this.#ofContent(recordOf(source)["content"]) ?? this.#ofContent(inner);
      if (within) return within;
    }
    return undefined;
  }

  #allows(name: string): boolean {
    return this.#allowed.some((allowed) =>
      allowed.endsWith("*") ? name.startsWith(allowed.slice(0, -1)) : name === allowed,
    );
  }
}

function betaNames(header: string): string[] {
  return header
    .split(",")
    .map((word) => word.trim())
    .filter((word) => word !== "");
}

/** A field that is null, or has the value that it would have anyway, asks for nothing. */
function isHarmless(field: string, value: unknown): boolean {
  const isKnown = Object.hasOwn(fieldRules, field);
  return isKnown && (value === null || (Object.hasOwn(harmlessValues, field) && value === harmlessValues[field]));
}

/** Text and base64 come with the request; everything else would be fetched. */
function featureOfSource(source: unknown): Feature | undefined {
  if (typeof source !== "object" || source === null) return undefined;
  const { type } = source as { type?: unknown };
  if (type === "base64" || type === "text" || type === "content") return undefined;
  return type === "file" ? "files" : "url_sources";
}

function reachingOut(feature: Feature) {
  return { allowedBy: feature, why: "it could carry data out of the sandbox" };
}

/** What is said of all findings at once. */
function refusalOf(findings: readonly Finding[]): Refusal {
  const names = findings.map(({ kind, name }) => (kind === "content" ? name : `the ${kind} ${printable(name)}`));
  const reasons = [...new Set(findings.map(({ why }) => why))];
  const allowedBy = [...new Set(findings.flatMap((finding) => finding.allowedBy ?? []))].map(printable);
  const isHopeless = findings.some((finding) => finding.allowedBy === undefined);
  const help = isHopeless
    ? "nothing can allow it"
    : `the user can allow it with the setting anthropicAllow: ${JSON.stringify(allowedBy)}`;
  const message = `not allowed: ${names.join(", ")}, because ${reasons.join(", and ")}. Do without it; ${help}`;
  const words = apiWordsOf(findings);
  if (words === "") return { reason: "feature_not_allowed", message };
  const errorCode = findings.find((finding) => finding.errorCode !== undefined)?.errorCode;
  return { reason: "input_not_allowed", message, apiWords: words, ...(errorCode !== undefined && { errorCode }) };
}

/**
 * What the API itself says to a beta and to a field that it does not know. claude understands these words, leaves out what
 * they name, and asks again: seen with claude 2.1.330.
 */
function apiWordsOf(findings: readonly Finding[]): string {
  const named = (kind: Finding["kind"]) => findings.filter((finding) => finding.kind === kind).map(({ name }) => name);
  const betas = named("beta").map((name) => `\`${printable(name)}\``);
  return [
    ...(betas.length > 0 ? [`Unexpected value(s) ${betas.join(", ")} for the \`anthropic-beta\` header.`] : []),
    ...named("field").map((name) => `${printable(name)}: Extra inputs are not permitted.`),
  ].join(" ");
}

function recordOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

/** A word of the request as it may stand in an answer. */
function printable(word: string): string {
  return word.slice(0, 80).replace(/[^\w.:-]/g, "?");
}
