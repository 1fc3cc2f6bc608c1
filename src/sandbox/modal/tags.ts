/** What is written on every sandbox at Modal, so that it can be found again, and proven to be ours. */
import type { Role } from "../provider.ts";
import { type Reserved, usdPerHour } from "./prices.ts";

/** longest value of a tag at Modal */
const maxLength = 63;
const roles: readonly string[] = ["agent", "proxy", "syncer"] satisfies Role[];

export interface Label {
  /** installation */
  owner: string;
  role: Role;
  /** as the spec has it, without the installation's mark */
  name: string;
  host: string;
  /** this one creation: what a lost answer left is found by it */
  creation: string;
  startedAtMs: number;
  reserved: Reserved;
  lifetimeMs: number;
  ports: readonly number[];
  /** the spec's own */
  tags: Readonly<Record<string, string>>;
}

/** names that are ours, and not the spec's */
const own = [
  "modal-sb",
  "owner",
  "role",
  "name",
  "host",
  "creation",
  "started",
  "gpu",
  "cores",
  "memory",
  "lifetime",
  "ports",
];

export function tagsOf(label: Label): Record<string, string> {
  const { reserved } = label;
  return {
    ...encodedTags(label.tags),
    ...encodedTags({
      "modal-sb": "1",
      owner: label.owner,
      role: label.role,
      name: label.name,
      host: label.host,
      creation: label.creation,
      started: String(Math.round(label.startedAtMs / 1000)),
      ...(reserved.gpu !== undefined && { gpu: reserved.gpu }),
      cores: String(reserved.cpuCores),
      memory: String(reserved.memoryMiB),
      lifetime: String(Math.round(label.lifetimeMs / 1000)),
      ...(label.ports.length > 0 && { ports: label.ports.join(".") }),
    }),
  };
}

/** The label of `tags`; undefined when they are not an installation's that is called `owner`. */
export function labelOf(tags: Readonly<Record<string, string>>, owner: string): Label | undefined {
  const decoded = decodedTags(tags);
  const { role = "", name } = decoded;
  if (decoded["modal-sb"] !== "1" || decoded["owner"] !== owner || !roles.includes(role) || name === undefined)
    return undefined;
  return {
    owner,
    role: role as Role,
    name,
    host: decoded["host"] ?? "",
    creation: decoded["creation"] ?? "",
    startedAtMs: numberOf(decoded["started"]) * 1000,
    reserved: {
      gpu: decoded["gpu"],
      cpuCores: numberOf(decoded["cores"]),
      memoryMiB: numberOf(decoded["memory"]),
    },
    lifetimeMs: numberOf(decoded["lifetime"]) * 1000,
    ports: (decoded["ports"] ?? "").split(".").filter(Boolean).map(Number),
    tags: Object.fromEntries(Object.entries(decoded).filter(([key]) => !own.includes(key))),
  };
}

/** What the label says of money and time, as a record has it. */
export function recordedCosts({ reserved, lifetimeMs, startedAtMs }: Label) {
  const price = usdPerHour(reserved);
  return {
    ...(reserved.gpu !== undefined && { gpu: reserved.gpu }),
    ...(price !== undefined && { usdPerHour: price }),
    ...(lifetimeMs > 0 && { endsAt: new Date(startedAtMs + lifetimeMs).toISOString() }),
  };
}

/**
 * Values in letters that Modal takes: others as `_` and their code, and so an underscore that would look like one. What is
 * longer than a tag goes on in `<key>.2`, `<key>.3`.
 */
export function encodedTags(tags: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(tags).flatMap(([key, value]) => {
      const pieces = encodedValue(value).match(new RegExp(`.{1,${maxLength}}`, "g")) ?? [""];
      return pieces.map((piece, index) => [index === 0 ? key : `${key}.${index + 1}`, piece]);
    }),
  );
}

function encodedValue(value: string): string {
  return value.replace(/[^A-Za-z0-9._-]|_(?=[0-9a-f]{2})/gu, (letter) =>
    [...Buffer.from(letter)].map((byte) => `_${byte.toString(16).padStart(2, "0")}`).join(""),
  );
}

/** Anybody may have written them: what is no text in UTF-8 becomes replacement characters. */
function decodedTags(tags: Readonly<Record<string, string>>): Record<string, string> {
  const isPiece = (key: string) => /\.\d+$/.test(key) && key.replace(/\.\d+$/, "") in tags;
  const whole = (key: string) => {
    let value = tags[key] ?? "";
    for (let piece = 2; tags[`${key}.${piece}`] !== undefined; piece++) value += tags[`${key}.${piece}`];
    return value;
  };
  const keys = Object.keys(tags).filter((key) => !isPiece(key));
  return Object.fromEntries(keys.map((key) => [key, decodedValue(whole(key))]));
}

function decodedValue(value: string): string {
  return value.replace(/(?:_[0-9a-f]{2})+/g, (codes) => Buffer.from(codes.replaceAll("_", ""), "hex").toString("utf8"));
}

/** Anybody in the account may have written it; larger ones are no time that a Date can hold. */
function numberOf(text: string | undefined): number {
  const number = Number(text);
  return number >= 0 && number < 1e11 ? number : 0;
}
