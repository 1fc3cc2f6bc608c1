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
  undatedName,
} from "./anthropic-lists.ts";
import { toolsOf } from "./anthropic-tools.ts";
import type { AnthropicGrant } from "./grant.ts";
import type { Refusal } from "./refusal.ts";

/** what one refusal names; a sandbox could ask for millions */
const maxFindings = 20;

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
    const tools = toolsOf(body);
    if (!tools) return { reason: "bad_request", message: '"tools" is not a list' };
    const types = tools.map(({ type }) => type ?? "custom");
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
    return findings.length === 0 ? undefined : refusalOf(findings.slice(0, maxFindings));
  }

  /** At most `maxFindings`. */
  #judge(kind: "beta" | "field" | "tool", rules: Readonly<Record<string, Rule>>, names: readonly string[]): Finding[] {
    const findings = new Map<string, Finding>();
    for (const name of names) {
      const finding = this.#findingOf(kind, name, ruleOf(rules, name));
      if (finding) findings.set(name, finding);
      if (findings.size === maxFindings) break;
    }
    return [...findings.values()];
  }

  #findingOf(kind: "beta" | "field" | "tool", name: string, rule: Rule | undefined): Finding | undefined {
    if (rule && "never" in rule) {
      return { kind, name, allowedBy: undefined, why: rule.never, errorCode: rule.errorCode };
    }
    const allowedBy = `${kind}:${name}`;
    const isAllowed = this.#allows(allowedBy) || this.#allows(`${kind}:${undatedName(name)}`);
    if ((rule && "passes" in rule) || isAllowed) return undefined;
    if (!rule) return { kind, name, allowedBy, why: "it is not known to this proxy" };
    if ("refused" in rule) return { kind, name, allowedBy, why: rule.refused };
    return this.#allows(rule.opens) ? undefined : { kind, name, ...reachingOut(rule.opens) };
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
      // a file that the server's own code has written is none of the account's others
      const ofFile = /^(?:bash_)?code_execution_output$/.test(String(type)) ? "code_execution" : "files";
      const feature = featureOfSource(source) ?? (file_id === undefined ? undefined : ofFile);
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
      // only names of one kind have a common ending: a lone `*` is nothing
      /^(?:beta|field|tool):.*\*$/.test(allowed) ? name.startsWith(allowed.slice(0, -1)) : name === allowed,
    );
  }
}

function betaNames(header: string): string[] {
  return header
    .split(",")
    .map((word) => word.trim())
    .filter((word) => word !== "");
}

/** A field that is null or an empty list, or has the value that it would have anyway, asks for nothing. */
function isHarmless(field: string, value: unknown): boolean {
  if (!Object.hasOwn(fieldRules, field)) return false;
  const isEmpty = value === null || (Array.isArray(value) && value.length === 0);
  return isEmpty || (Object.hasOwn(harmlessValues, field) && value === harmlessValues[field]);
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

/** One refusal for all of them. */
function refusalOf(findings: readonly Finding[]): Refusal {
  // a name that cannot be shown as it is cannot be allowed by what is shown
  const allowedBy = [...new Set(findings.flatMap((finding) => finding.allowedBy ?? []))].filter(
    (name) => printable(name) === name,
  );
  const help =
    allowedBy.length === 0
      ? "Do without it"
      : `Do without it; the user can allow it with the setting anthropicAllow: ${JSON.stringify(allowedBy)}`;
  const message = `not allowed: ${groupsOf(findings).join("; ")}. ${help}`;
  const words = apiWordsOf(findings);
  if (words === "") return { reason: "feature_not_allowed", message };
  const errorCode = findings.find((finding) => finding.errorCode !== undefined)?.errorCode;
  return { reason: "input_not_allowed", message, apiWords: words, ...(errorCode !== undefined && { errorCode }) };
}

/** The names that are refused for one reason, and the reason. */
function groupsOf(findings: readonly Finding[]): string[] {
  const groups = Map.groupBy(findings, ({ why, allowedBy }) =>
    allowedBy === undefined ? `${why}; nothing allows it` : why,
  );
  return [...groups].map(([why, group]) => {
    const names = group.map(({ kind, name }) => (kind === "content" ? name : `the ${kind} ${printable(name)}`));
    return `${names.join(", ")} (${why})`;
  });
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
