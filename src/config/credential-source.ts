/** Credentials by where they come from: a variable, a file, or the output of a command such as `op read …`. */
import { execFile } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { ConfigError, messageOf } from "../errors.ts";
import { Secret } from "../secret.ts";
import type { Environment } from "./load.ts";

/** One of the three is set. */
export interface SourceDescription {
  env?: string | undefined;
  file?: string | undefined;
  command?: string | undefined;
}

const commandTimeoutMs = 60_000;

/** A credential that can be read again. */
export class CredentialSource {
  readonly #description: SourceDescription;
  readonly #environment: Environment;
  /** for errors, e.g. "--key-file" */
  readonly #origin: string;
  #readAt: number | undefined;

  constructor(description: SourceDescription, environment: Environment, origin: string) {
    this.#description = description;
    this.#environment = environment;
    this.#origin = origin;
  }

  /** True when it is a file that was written since it was read. */
  hasChanged(): boolean {
    const { file } = this.#description;
    return file !== undefined && this.#readAt !== undefined && modifiedAt(expandHome(file)) !== this.#readAt;
  }

  /** Throws a ConfigError that says where it should have been, and never a word of what was there. */
  async read(): Promise<Secret> {
    const { env, file, command } = this.#description;
    const value = (
      command !== undefined
        ? await this.#run(command)
        : file !== undefined
          ? this.#open(file)
          : this.#environment[env ?? ""]
    )?.trim();
    if (!value) throw new ConfigError(`There is no credential in ${this.#place()}`);
    if (!/^[\x21-\x7e]+$/.test(value)) {
      throw new ConfigError(`${this.#place()} does not hold one credential`, { hint: "it is one word on one line" });
    }
    return new Secret(value);
  }

  #place(): string {
    const { env, file, command } = this.#description;
    if (env !== undefined) return `the variable ${env}`;
    return command !== undefined ? `the output of the command of ${this.#origin}` : `the file "${file}"`;
  }

  #open(file: string): string {
    const path = expandHome(file);
    try {
      this.#readAt = modifiedAt(path);
      return readFileSync(path, "utf8");
    } catch (error) {
      throw new ConfigError(`Cannot read the file of ${this.#origin}: ${messageOf(error)}`, { cause: error });
    }
  }

  async #run(command: string): Promise<string> {
    try {
      const options = { timeout: commandTimeoutMs, env: { ...this.#environment } as NodeJS.ProcessEnv };
      return (await promisify(execFile)("/bin/sh", ["-c", command], options)).stdout;
    } catch (error) {
      const { code, killed, stderr = "" } = error as { code?: unknown; killed?: boolean; stderr?: string };
      const why = killed ? `took more than ${commandTimeoutMs / 1000} s` : `ended with code ${code}`;
      // its output may be half a credential; its complaint is what the user needs
      throw new ConfigError(`The command of ${this.#origin} ${why}: ${stderr.trim().split("\n").at(-1) ?? ""}`);
    }
  }
}

function modifiedAt(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs;
}

function expandHome(path: string): string {
  return path.startsWith("~/") ? join(homedir(), path.slice(2)) : resolve(path);
}
