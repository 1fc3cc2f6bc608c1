/** Identifiers in Modal's shapes: clients tell the backend of a sandbox by them. */
import { randomBytes } from "node:crypto";

const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/** "ap-" and 22 letters or digits */
export function shortId(prefix: string): string {
  return `${prefix}-${[...randomBytes(22)].map((byte) => letters[byte % letters.length]).join("")}`;
}

/** "sb-01…": a ULID, its first ten characters the time */
export function ulid(prefix: string): string {
  let time = Date.now();
  let stamp = "";
  for (let index = 0; index < 10; index++) {
    stamp = `${crockford[time % 32]}${stamp}`;
    time = Math.floor(time / 32);
  }
  return `${prefix}-${stamp}${[...randomBytes(16)].map((byte) => crockford[byte % 32]).join("")}`;
}

/** An unsigned token with an end, as clients read it. */
export function token(lifetimeSecs: number, claims: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + lifetimeSecs;
  return `${part({ alg: "none", typ: "JWT" })}.${part({ ...claims, exp })}.emulator`;
}
