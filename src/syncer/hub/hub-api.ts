/**
 * Hugging Face's API as the user. The token is put on requests to the Hub's own origin, and on no other: the library gets
 * none, and the storage of buckets is reached with the short-lived tokens that the Hub gives for it.
 */
import { HubApiError } from "@huggingface/hub";
import { credentialForms } from "../../credential-forms.ts";
import { messageOf } from "../../errors.ts";
import { sanitizeText } from "../../sanitize.ts";
import type { Secret } from "../../secret.ts";
import { HubError } from "./hub-error.ts";

export interface HubAccess {
  token: Secret;
  /** origin of the Hub; another one than Hugging Face's in tests */
  hubUrl?: string | undefined;
}

/** of a request, in milliseconds: a fragment's upload is one */
const timeoutMs = 90_000;
const maxWords = 300;

export class HubApi {
  readonly origin: string;
  readonly #token: Secret;

  constructor({ token, hubUrl = "https://huggingface.co" }: HubAccess) {
    this.origin = new URL(hubUrl).origin;
    this.#token = token;
  }

  /** What the functions of `@huggingface/hub` take. */
  get parameters(): { hubUrl: string; fetch: typeof fetch } {
    return { hubUrl: this.origin, fetch: this.#fetch };
  }

  /** Asks with JSON, gets JSON; undefined for 404. Throws a HubError; `what` ends the sentence "The token may not …". */
  async request(what: string, method: "GET" | "POST", path: string, body?: unknown): Promise<unknown> {
    return await this.attempt(what, async () => {
      const response = await this.#fetch(`${this.origin}${path}`, {
        method,
        ...(body !== undefined && {
          headers: { "content-type": "application/json" },
          body: JSON.stringify(body),
        }),
      });
      const text = await response.text();
      if (response.ok) return jsonIn(text);
      throw Object.assign(new HubApiError(path, response.status), { message: errorIn(text) });
    });
  }

  /** A file of a Space's repository, as text. Throws a HubError. */
  async spaceFile(spaceId: string, path: string): Promise<string | undefined> {
    return await this.attempt(`read the Space ${spaceId}`, async () => {
      const response = await this.#fetch(`${this.origin}/spaces/${spaceId}/raw/main/${path}`);
      const text = await response.text();
      if (response.ok) return text;
      throw Object.assign(new HubApiError(path, response.status), { message: errorIn(text) });
    });
  }

  /** Does it, and turns what the Hub answers into a HubError; undefined for 404. */
  async attempt<Result>(what: string, action: () => Promise<Result>): Promise<Result | undefined> {
    try {
      return await action();
    } catch (error) {
      if (error instanceof HubError) throw error;
      const status = error instanceof HubApiError ? error.statusCode : undefined;
      if (status === 404) return undefined;
      throw HubError.of(what, status, this.#clean(status === undefined ? causeOf(error) : messageOf(error)));
    }
  }

  readonly #fetch: typeof fetch = async (input, init = {}) => {
    const url = new URL(input instanceof Request ? input.url : input);
    const headers = new Headers(init.headers);
    if (url.origin === this.origin && !headers.has("authorization")) {
      headers.set("authorization", `Bearer ${this.#token.reveal()}`);
    }
    // a redirect would lead the token elsewhere
    return await fetch(url, { ...init, headers, redirect: "manual", signal: AbortSignal.timeout(timeoutMs) });
  };

  /** The Hub's words, fit to be shown: short, harmless for a terminal, and without our token. */
  #clean(words: string): string {
    if (credentialForms(this.#token.reveal()).some((form) => words.includes(form)))
      return "(words that hold the token)";
    // the library appends the address
    const [plain = ""] = sanitizeText(words).replaceAll("\n", " ").split(". URL: ");
    return plain.slice(0, maxWords);
  }
}

function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw HubError.of("", undefined, "its answer is no JSON");
  }
}

function errorIn(text: string): string {
  try {
    const { error } = JSON.parse(text) as { error?: unknown };
    return typeof error === "string" ? error : "";
  } catch {
    return "";
  }
}

function causeOf(error: unknown): string {
  return (error as { cause?: { code?: string } }).cause?.code ?? messageOf(error);
}
