/**
 * The messages of a transfer. Paths are relative to what is transferred, in latin1: a character is a byte of the name,
 * because names need not be UTF-8. "" is the file or folder itself.
 *
 * The sending side walks, and announces a `folder` or `file` by a number that counts up from 0. For a file the receiving
 * side asks for its hash (`check`, when it has one of that size), or says what it `want`s: all, or what follows a prefix
 * that it has. Then come `begin`, data, `end`. Each announced entry ends with a `result`. No more than `maxOpenEntries` are without one, so
 * that many small files cost no round trip each and neither side keeps much.
 */
import { TransferFault } from "./transfer-fault.ts";

export const maxOpenEntries = 512;

const text = "text";
const count = "count";
const flag = "flag";

const shapes = {
  /** host → sandbox, first of all: send what is at `from` */
  pull: { from: text },
  /** host → sandbox, first of all: receive as `to`; see TargetRequest */
  push: { to: text, name: text, contents: flag, source: text, overwrite: flag },

  root: { kind: text },
  folder: { id: count, path: text, mode: count },
  file: { id: count, path: text, mode: count, size: count },
  /** what is neither file nor folder, or may not be read */
  skipped: { path: text, code: text },
  /** what all files will have been, as soon as it is known */
  total: { files: count, bytes: count },
  /** of the whole file */
  hashed: { id: count, sha256: text },
  begin: { id: count, from: count },
  data: { n: count },
  /** `changed`: somebody wrote to the file while it was read */
  end: { id: count, sha256: text, changed: flag },
  /** in place of `begin` or `end`: the file cannot be read */
  broken: { id: count, code: text },
  /** everything has been announced and has its result */
  done: {},

  check: { id: count },
  /** `sha256` is that of the first `from` bytes */
  want: { id: count, from: count, sha256: text },
  result: { id: count, outcome: text, code: text },
  /** all that was received is in its place */
  bye: {},

  alive: {},
  /** the sandbox cannot go on: a fault's code and detail */
  fault: { code: text, detail: text },
} as const;

interface Kinds {
  text: string;
  count: number;
  flag: boolean;
}

type Shapes = typeof shapes;
type Fields<Shape> = { -readonly [Name in keyof Shape]: Kinds[Shape[Name] & keyof Kinds] };
export type Message = { [Type in keyof Shapes]: { t: Type } & Fields<Shapes[Type]> }[keyof Shapes];
export type MessageOf<Type extends Message["t"]> = Extract<Message, { t: Type }>;

/** `put`: in its place. `there`: it was there already, the same. `exists`: another is in its place. */
export const outcomes = ["put", "there", "exists", "failed"] as const;
export type Outcome = (typeof outcomes)[number];

const isKind: Record<keyof Kinds, (value: unknown) => boolean> = {
  text: (value) => typeof value === "string",
  count: (value) => Number.isSafeInteger(value) && (value as number) >= 0,
  flag: (value) => typeof value === "boolean",
};

/** Throws a TransferFault "protocol" when a line is no message. */
export function readMessage(line: string): Message {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new TransferFault("protocol", "a line that is no JSON");
  }
  const fields = typeof value === "object" && value !== null ? new Map(Object.entries(value)) : new Map();
  const type: unknown = fields.get("t");
  if (typeof type !== "string" || !Object.hasOwn(shapes, type)) throw new TransferFault("protocol", "no known message");
  for (const [name, kind] of Object.entries(shapes[type as keyof Shapes])) {
    if (!isKind[kind as keyof Kinds](fields.get(name)))
      throw new TransferFault("protocol", `a wrong ${name} in ${type}`);
  }
  return value as Message;
}
