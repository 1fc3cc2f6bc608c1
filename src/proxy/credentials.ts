/** The real credentials: held here, set on a request at the last moment, replaced while the proxy runs. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { credentialForms } from "../credential-forms.ts";
import { Secret } from "../secret.ts";

/** How an upstream takes its credential. */
export type Injection = "x-api-key" | "bearer" | "basic" | `header:${string}`;

/** One header, as an upstream gets it, and every form in which an answer must not show it. */
export interface CredentialHeader {
  name: string;
  value: string;
}

/** Name of the file in the credentials folder, and of the credential in `rotate`. */
export type CredentialName = string;

export class Credentials {
  readonly #held = new Map<CredentialName, Secret>();
  #forms: readonly Buffer[] = [];

  /** Reads those of `names` that the folder holds, one file each. Throws when a file's content cannot be a credential. */
  constructor(folder: string, names: readonly CredentialName[]) {
    for (const name of names) {
      const path = join(folder, name);
      if (existsSync(path)) this.set(name, readFileSync(path, "utf8").trim());
    }
  }

  has(name: CredentialName): boolean {
    return this.#held.has(name);
  }

  /**
   * Takes `value` from now on. Requests that run keep the header they were sent with, and what was held before stays
   * among the forms that no answer may show. Throws when a header could not hold it; the value is never in the error.
   */
  set(name: CredentialName, value: string): void {
    if (!/^[\x21-\x7e]+$/.test(value)) throw new Error(`The credential ${name} is empty or holds more than one word`);
    this.#held.set(name, new Secret(value));
    const forms = credentialForms(value);
    const known = new Set(this.#forms.map((form) => form.toString()));
    this.#forms = [...this.#forms, ...forms.filter((form) => !known.has(form)).map((form) => Buffer.from(form))];
  }

  /** Every form of every credential held now or before. */
  get forms(): readonly Buffer[] {
    return this.#forms;
  }

  /** The header that carries it. Throws when it is not held. */
  header(name: CredentialName, injection: Injection): CredentialHeader {
    const value = this.#held.get(name)?.reveal();
    if (value === undefined) throw new Error(`The credential ${name} is not held`);
    switch (injection) {
      case "x-api-key":
        return { name: "x-api-key", value };
      case "bearer":
        return { name: "authorization", value: `Bearer ${value}` };
      case "basic":
        // git's own way to carry a token
        return {
          name: "authorization",
          value: `Basic ${Buffer.from(`x-access-token:${value}`).toString("base64")}`,
        };
      default:
        return { name: injection.slice("header:".length), value };
    }
  }
}
