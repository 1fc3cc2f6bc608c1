/**
 * JSON that every reader understands alike: valid UTF-8 without a byte order mark, no key twice in an object, no
 * nesting without end. The proxy judges what it reads, and the API must read the same.
 */
const maxDepth = 256;

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Parses a body. Throws an Error whose message says what is wrong, without a word of the body. */
export function parseStrictJson(bytes: Buffer): unknown {
  const text = decode(bytes);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // V8's message quotes the text
    throw new Error("the body is not JSON");
  }
  refuseAmbiguous(text);
  return value;
}

function decode(bytes: Buffer): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new Error("the body is not UTF-8");
  }
}

/** `text` is known to be JSON, so only its structure is looked at. */
function refuseAmbiguous(text: string): void {
  // keys of each open object; undefined for an open array
  const open: (Set<string> | undefined)[] = [];
  let isKey = false;
  for (let at = 0; at < text.length; at += 1) {
    switch (text.charCodeAt(at)) {
      case 0x22: {
        const end = endOfString(text, at);
        if (isKey) addKey(open.at(-1), text.slice(at + 1, end));
        isKey = false;
        at = end;
        break;
      }
      case 0x7b:
      case 0x5b: {
        const isObject = text.charCodeAt(at) === 0x7b;
        if (open.push(isObject ? new Set() : undefined) > maxDepth) throw new Error("the body is nested too deeply");
        isKey = isObject;
        break;
      }
      case 0x7d:
      case 0x5d:
        open.pop();
        isKey = false;
        break;
      case 0x2c:
        isKey = open.at(-1) !== undefined;
        break;
    }
  }
}

/** Where the string ends that begins at `start`. */
function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); ; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text.charCodeAt(end - 1 - backslashes) === 0x5c) backslashes += 1;
    if (backslashes % 2 === 0) return end;
  }
}

function addKey(keys: Set<string> | undefined, raw: string): void {
  const key = raw.includes("\\") ? (JSON.parse(`"${raw}"`) as string) : raw;
  if (keys?.has(key)) throw new Error("an object of the body names a key twice");
  keys?.add(key);
}
