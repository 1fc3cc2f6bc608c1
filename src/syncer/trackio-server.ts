/** A trackio server, on a Space or self-hosted, by its HTTP API: version 1, in trackio from 0.24.0. */
import { credentialForms } from "../credential-forms.ts";
import { messageOf } from "../errors.ts";
import { sanitizeText } from "../sanitize.ts";
import type { Secret } from "../secret.ts";

/** How the syncer proves itself. */
export type Proof =
  /** a Hugging Face token, for a Space */
  | { kind: "bearer"; token: Secret }
  /** the write token of a self-hosted server */
  | { kind: "write-token"; token: Secret }
  | { kind: "none" };

/**
 * What a failure means: `later`: the same again, after a while; `blocked`: nothing will go on before somebody changes
 * something; `content`: this request's rows are the reason, or seem to be; `unsupported`: an old server lacks this.
 */
export type FailureKind = "later" | "blocked" | "content" | "unsupported";

export class ServerFailure extends Error {
  readonly kind: FailureKind;
  /** how long the server asks to be left alone */
  readonly retryAfterMs: number | undefined;

  constructor(kind: FailureKind, message: string, retryAfterMs?: number) {
    super(message);
    this.name = new.target.name;
    this.kind = kind;
    this.retryAfterMs = retryAfterMs;
  }
}

/** trackio's own client waits as long for a batch */
const requestTimeoutMs = 90_000;
const probeTimeoutMs = 10_000;
/** of an answer; counts of ten thousand runs are smaller */
const maxAnswerBytes = 8 * 1024 * 1024;
const maxWords = 300;
/** the first with the HTTP API */
const oldestVersion = [0, 24, 0] as const;

export class TrackioServer {
  readonly #base: URL;
  readonly #proof: Proof;
  readonly #confirm: () => Promise<void>;
  #isConfirmed = false;
  /** of the last probe that succeeded; undefined: it is to be asked again */
  version: string | undefined;

  /**
   * `base` ends with a slash. `confirm` sees, before the first request, that the proof may go there; it throws a
   * ServerFailure when not.
   */
  constructor(base: URL, proof: Proof, confirm: () => Promise<void> = async () => {}) {
    this.#base = base;
    this.#proof = proof;
    this.#confirm = confirm;
  }

  /** Sees that a trackio server that we can talk to answers. Throws a ServerFailure. */
  async probe(): Promise<void> {
    const found = (await this.#fetch("version", {}, probeTimeoutMs)) as { version?: unknown; api_version?: unknown };
    if (found?.api_version !== 1 || typeof found.version !== "string") {
      throw new ServerFailure("later", `${this.#base.host} does not answer as a trackio server yet`);
    }
    if (isOlder(found.version, oldestVersion)) {
      const words = `${this.#base.host} runs trackio ${sanitizeText(found.version).slice(0, 20)}; 0.24.0 or later is needed`;
      throw new ServerFailure("blocked", words);
    }
    this.version = found.version;
  }

  /** Calls an API by its name; `kwargs` is JSON of an object. Returns its data. Throws a ServerFailure. */
  async call(name: string, kwargs: string): Promise<unknown> {
    const body = `{"args":[],"kwargs":${kwargs}}`;
    const headers = { "content-type": "application/json" };
    const answer = await this.#fetch(`api/${name}`, { method: "POST", headers, body }, requestTimeoutMs).catch(
      (error) => {
        // a server that misses what was sent could not read the request: something in it is not to its taste
        const [, missing] = /missing required parameter: (\w+)/i.exec(messageOf(error)) ?? [];
        throw missing && kwargs.includes(`"${missing}":`) ? new ServerFailure("content", messageOf(error)) : error;
      },
    );
    if (answer === null || typeof answer !== "object" || !("data" in answer)) {
      throw new ServerFailure("later", `${this.#base.host} answered ${name} with something else than data`);
    }
    return answer.data;
  }

  /** Stages files; returns their paths on the server, for one use. */
  async upload(files: readonly { name: string; content: Blob }[]): Promise<string[]> {
    const form = new FormData();
    for (const { name, content } of files) form.append("files", content, name);
    const answer = await this.#fetch("api/upload", { method: "POST", body: form }, requestTimeoutMs);
    const { paths } = (answer ?? {}) as { paths?: unknown };
    if (!Array.isArray(paths) || paths.length !== files.length) {
      throw new ServerFailure("later", `${this.#base.host} did not take the files`);
    }
    return paths.map(String);
  }

  async #fetch(path: string, init: RequestInit, timeoutMs: number): Promise<unknown> {
    const { response, text } = await this.#exchange(path, init, timeoutMs);
    if (response.status >= 300 && response.status < 400) {
      // the token goes to this host alone
      throw new ServerFailure("blocked", `${this.#base.host} answered with a redirect, which is not followed`);
    }
    const answer = parsed(text);
    if (response.ok && answer !== undefined) return answer;
    throw this.#failureOf(response, answer);
  }

  async #exchange(path: string, init: RequestInit, timeoutMs: number): Promise<{ response: Response; text: string }> {
    if (!this.#isConfirmed) await this.#confirm();
    this.#isConfirmed = true;
    try {
      const response = await fetch(new URL(path, this.#base), {
        ...init,
        headers: { ...init.headers, ...this.#headers() },
        redirect: "manual",
        signal: AbortSignal.timeout(timeoutMs),
      });
      return { response, text: await textOf(response) };
    } catch (error) {
      if (error instanceof ServerFailure) throw error;
      const cause = (error as { cause?: { code?: string } }).cause?.code ?? this.#clean(messageOf(error));
      throw new ServerFailure("later", `${this.#base.host} cannot be reached (${cause})`);
    }
  }

  #headers(): Record<string, string> {
    switch (this.#proof.kind) {
      case "bearer":
        return { authorization: `Bearer ${this.#proof.token.reveal()}` };
      case "write-token":
        return { "x-trackio-write-token": this.#proof.token.reveal() };
      default:
        return {};
    }
  }

  #failureOf(response: Response, answer: unknown): ServerFailure {
    const { status } = response;
    const error = (answer as { error?: unknown } | undefined)?.error;
    const words = typeof error === "string" ? this.#clean(error) : "";
    const message = `${this.#base.host} answered ${status}${words ? `: ${words}` : ""}`;
    const retryAfterMs = secondsOf(response.headers.get("retry-after"));
    // only how trackio's sentences begin: they quote names, which the sandbox gave
    if (status === 429 || /^429 Client Error/.test(words)) return new ServerFailure("later", message, retryAfterMs);
    if (status === 401 || status === 403) return new ServerFailure("blocked", message);
    // trackio says so with a 500 on a Space and a 400 elsewhere
    if (/^(Expected (a HF_TOKEN|the provided hf_token)|A write_token is required|Invalid user token)/.test(words))
      return new ServerFailure("blocked", message);
    if (status === 404 && /unknown api/i.test(words)) return new ServerFailure("unsupported", message);
    if (status === 400 && /missing required parameter/i.test(words)) return new ServerFailure("unsupported", message);
    if (status === 404) return new ServerFailure("blocked", message);
    // an answer without trackio's words is not trackio's: the Space sleeps, builds, or is behind a wall
    if (typeof error !== "string" && status !== 413) return new ServerFailure("later", message, retryAfterMs);
    if (status >= 502 && status <= 504) return new ServerFailure("later", message, retryAfterMs);
    return new ServerFailure("content", message);
  }

  /** A server's words, fit to be shown: short, harmless for a terminal, and without our token. */
  #clean(words: string): string {
    const short = sanitizeText(words).replaceAll("\n", " ").slice(0, maxWords);
    if (this.#proof.kind === "none") return short;
    return credentialForms(this.#proof.token.reveal()).some((form) => words.includes(form))
      ? "(words that hold the token)"
      : short;
  }
}

async function textOf(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > maxAnswerBytes) throw new ServerFailure("content", "its answer is too long");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function secondsOf(header: string | null): number | undefined {
  const seconds = Number(header);
  return header !== null && Number.isFinite(seconds) && seconds >= 0 ? Math.min(seconds, 3600) * 1000 : undefined;
}

export function isOlder(version: string, oldest: readonly number[]): boolean {
  const parts = version.split(/[.+]/).map(Number);
  for (const [index, least] of oldest.entries()) {
    const part = parts[index] ?? 0;
    if (Number.isNaN(part)) return false;
    if (part !== least) return part < least;
  }
  return false;
}
