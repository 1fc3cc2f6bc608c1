/** What an agent prints may not act on a terminal: only printable text, tabs and newlines pass. */

/** escape sequences with their parameters, so that no rubble of them stays: CSI, OSC/DCS/APC/PM/SOS strings, others */
const sequences =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  /(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]*[0-~]?/g;

/** C0 and C1 controls but tab and newline; characters that reorder or hide text; lone surrogates */
const unprintable =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}\p{Surrogate}]/gu;

/** `text` without escape sequences, control characters and invisible characters; `\r\n` becomes `\n`. */
export function sanitizeText(text: string): string {
  return text.replaceAll("\r\n", "\n").replace(sequences, "").replace(unprintable, "");
}

/** The same for every string in a JSON value, keys included. */
export function sanitizeDeep<Value>(value: Value): Value {
  return sanitizeValue(value) as Value;
}

function sanitizeValue(value: unknown): unknown {
  if (typeof value === "string") return sanitizeText(value);
  if (Array.isArray(value)) return value.map(sanitizeValue);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [sanitizeText(key), sanitizeValue(member)]));
}
