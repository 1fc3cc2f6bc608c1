/** The real credentials: read once, held here, set on a request at the last moment. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { credentialForms } from "../credential-forms.ts";
import { Secret } from "../secret.ts";

/** How the Anthropic API takes a credential, by the name of the file that holds it. */
const headerOf = {
  ANTHROPIC_API_KEY: (value: string) => ["x-api-key", value] as const,
  ANTHROPIC_AUTH_TOKEN: (value: string) => ["authorization", `Bearer ${value}`] as const,
};

export class Credential {
  readonly #name: keyof typeof headerOf;
  readonly #secret: Secret;
  /** every form in which an answer must not show it */
  readonly forms: readonly Buffer[];

  constructor(name: keyof typeof headerOf, secret: Secret) {
    this.#name = name;
    this.#secret = secret;
    this.forms = credentialForms(secret.reveal()).map((form) => Buffer.from(form));
  }

  /** The header that carries it, for a request to its own upstream. */
  header(): readonly [name: string, value: string] {
    return headerOf[this.#name](this.#secret.reveal());
  }
}

/** The API key when there is one, else the token. Throws when the folder holds neither. */
export function readAnthropicCredential(folder: string): Credential {
  for (const name of Object.keys(headerOf) as (keyof typeof headerOf)[]) {
    const path = join(folder, name);
    if (!existsSync(path)) continue;
    const value = readFileSync(path, "utf8").trim();
    // what a header cannot hold is no credential; the value itself is never part of an error
    if (!/^[\x21-\x7e]+$/.test(value)) throw new Error(`The credential ${name} is empty or holds more than one word`);
    return new Credential(name, new Secret(value));
  }
  throw new Error(`No credential: "${folder}" holds none of ${Object.keys(headerOf).join(", ")}`);
}
