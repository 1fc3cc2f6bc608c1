/**
 * The folder that becomes /app/.claude: a copy of the instructions, with a CLAUDE.md that speaks of the sandbox that it is in. It
 * lies under the hash of what it holds: a provider that keeps files in layers finds the same ones again.
 */
import { createHash } from "node:crypto";
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { ConfigError, messageOf } from "../errors.ts";
import type { SessionOptions } from "./contract.ts";
import { homeFacts } from "./home-facts.ts";
import { hasPlaceholders, renderTemplate } from "./home-template.ts";
import { bundledInstructions } from "./runtime-files.ts";
import { skillProblems } from "./skill-check.ts";

/** what is copied for each sandbox, and sent to one far away, is to be small */
const maxBytes = 8 * 1024 * 1024;
const maxEntries = 2000;
/** copies that no start has used for so long are removed */
const keptMs = 7 * 24 * 3_600_000;

/** a person's own settings, and what programs leave behind; the agent has no use for them */
const leftOut = new Set(["settings.local.json", "__pycache__", ".git", ".DS_Store"]);

type Entry = { path: string } & (
  | { kind: "file"; bytes: Buffer; isProgram: boolean }
  | { kind: "link"; target: string }
);

/**
 * The path of the copy for this session's agent. `byPath`: see homeFacts. Throws a ConfigError for an unknown placeholder, a
 * folder that is too large, and one that holds the user's own login.
 */
export function agentHome(options: SessionOptions, byPath: boolean): string {
  const folder = options.instructions ?? bundledInstructions;
  const entries = readableEntries(folder).map((entry) => rendered(entry, options, byPath, folder));
  const cache = cacheIn(options.stateFolder);
  const hash = createHash("sha256");
  for (const entry of entries) {
    const content = entry.kind === "link" ? `link ${entry.target}` : `file ${entry.isProgram} ${entry.bytes.length}`;
    hash.update(`${JSON.stringify([entry.path, content])}\n`);
    if (entry.kind === "file") hash.update(entry.bytes);
  }
  const name = hash.digest("hex").slice(0, 32);
  const path = join(cache, name);
  if (statSync(path, { throwIfNoEntry: false })) utimesSync(path, new Date(), new Date());
  else make(path, entries);
  removeOld(cache, name);
  return path;
}

/** What in the instructions claude will not see, or not as it is meant: one sentence each, for the user. */
export function homeProblems(folder: string): string[] {
  const link = lstatSync(join(folder, "CLAUDE.md"), { throwIfNoEntry: false });
  const real = statSync(join(folder, "CLAUDE.md"), { throwIfNoEntry: false });
  const isOutside =
    real !== undefined && !realpathSync(join(folder, "CLAUDE.md")).startsWith(`${realpathSync(folder)}/`);
  return [
    ...(link?.isSymbolicLink() && (!real || isOutside)
      ? ["CLAUDE.md is a link out of the folder, or to nothing: claude will not see it"]
      : []),
    ...skillProblems(folder),
  ];
}

function readableEntries(folder: string): Entry[] {
  try {
    return entriesOf(folder);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new ConfigError(`Cannot read the instructions: ${messageOf(error)}`, { hint: "make all of it readable" });
  }
}

/** Files and links below the folder, in one order for all machines. Links are not followed: they stay what they are. */
function entriesOf(folder: string): Entry[] {
  const entries: Entry[] = [];
  let bytes = 0;
  const walk = (below: string) => {
    for (const found of readdirSync(join(folder, below), { withFileTypes: true })) {
      if (leftOut.has(found.name)) continue;
      const path = join(below, found.name);
      const hostPath = join(folder, path);
      if (path === ".credentials.json") throw ownLogin(folder);
      if (found.isDirectory()) walk(path);
      else if (found.isSymbolicLink()) entries.push({ path, kind: "link", target: readlinkSync(hostPath) });
      else if (found.isFile()) {
        const { size, mode } = statSync(hostPath);
        bytes += size;
        if (bytes > maxBytes) throw tooLarge(folder, `more than ${maxBytes / 1024 / 1024} MiB with "${path}"`);
        entries.push({ path, kind: "file", bytes: readFileSync(hostPath), isProgram: (mode & 0o100) !== 0 });
      } else throw new ConfigError(`"${hostPath}" is neither a file nor a folder nor a link`, { hint: "remove it" });
      if (entries.length > maxEntries) throw tooLarge(folder, `more than ${maxEntries} files`);
    }
  };
  walk("");
  return entries.sort((one, other) => (one.path < other.path ? -1 : 1));
}

function rendered(entry: Entry, options: SessionOptions, byPath: boolean, folder: string): Entry {
  if (entry.path !== "CLAUDE.md" || entry.kind !== "file") return entry;
  const text = entry.bytes.toString("utf8");
  if (!hasPlaceholders(text)) return entry;
  return { ...entry, bytes: Buffer.from(renderTemplate(text, homeFacts(options, byPath), join(folder, "CLAUDE.md"))) };
}

/** Removes the copies: one of them holds what must not be kept. They are made anew when they are needed. */
export function forgetAgentHomes(stateFolder: string): void {
  rmSync(cacheIn(stateFolder), { recursive: true, force: true });
}

function cacheIn(stateFolder: string): string {
  return join(stateFolder, "cache/home");
}

function make(path: string, entries: readonly Entry[]): void {
  const draft = `${path}.${process.pid}`;
  rmSync(draft, { recursive: true, force: true });
  // as closed as the instructions may have been; each sandbox gets a copy that its user can read
  mkdirSync(draft, { recursive: true, mode: 0o700 });
  for (const entry of entries) {
    const place = join(draft, entry.path);
    mkdirSync(dirname(place), { recursive: true, mode: 0o700 });
    if (entry.kind === "link") symlinkSync(entry.target, place);
    else writeFileSync(place, entry.bytes, { mode: entry.isProgram ? 0o700 : 0o600 });
  }
  try {
    renameSync(draft, path);
  } catch (error) {
    // another process has just made the same
    if (!statSync(path, { throwIfNoEntry: false })) throw error;
    rmSync(draft, { recursive: true });
  }
}

function removeOld(cache: string, used: string): void {
  const before = Date.now() - keptMs;
  for (const name of readdirSync(cache)) {
    const path = join(cache, name);
    const stat = statSync(path, { throwIfNoEntry: false });
    if (name !== used && stat && stat.mtimeMs < before) rmSync(path, { recursive: true, force: true });
  }
}

function tooLarge(folder: string, words: string): ConfigError {
  return new ConfigError(`The instructions in "${folder}" are too large: ${words}`, {
    hint: "what is large belongs on a volume: modal-sb push",
  });
}

function ownLogin(folder: string): ConfigError {
  return new ConfigError(`"${folder}" holds the login of Claude Code (.credentials.json), which no agent may see`, {
    hint: "name a project's own folder; modal-sb init makes one",
  });
}
