import { inspect } from "node:util";

/** A credential that cannot be printed by accident: every conversion to text gives `[secret]`. */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The real value. Called only where it must leave this process or be searched for. */
  reveal(): string {
    return this.#value;
  }

  equals(other: Secret | undefined): boolean {
    return this.#value === other?.reveal();
  }

  toString(): string {
    return "[secret]";
  }

  toJSON(): string {
    return "[secret]";
  }

  [inspect.custom](): string {
    return "[secret]";
  }
}
