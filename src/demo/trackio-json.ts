/** JSON whose numbers keep their digits, as they do in Python: 2^60 + 1 stays what it is, and 1.0 does not become 1. */

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [name: string]: Json;
}

/** TypeScript does not know them yet */
const { rawJSON, isRawJSON } = JSON as typeof JSON & {
  rawJSON(json: string): JsonObject;
  isRawJSON(value: unknown): boolean;
};

/** Undefined when it is no JSON. A number that JavaScript would change is an object, which `stringifyJson` writes as it was. */
export function parseJson(text: string): Json | undefined {
  const keepDigits = (_name: string, value: Json, context?: { source: string }): Json => {
    if (typeof value !== "number" || !context || String(value) === context.source) return value;
    // trackio's word for what no double can hold
    if (!Number.isFinite(value)) return value > 0 ? "Infinity" : "-Infinity";
    return rawJSON(context.source);
  };
  try {
    return JSON.parse(text, keepDigits);
  } catch {
    return undefined;
  }
}

export function stringifyJson(value: unknown): string {
  return JSON.stringify(value, (_name, member) => (typeof member === "bigint" ? rawJSON(String(member)) : member));
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !isRawJSON(value);
}
