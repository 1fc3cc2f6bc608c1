/** What lies in a trackio folder that may be hostile: only names and sizes are looked at, and no link is followed. */
import { lstatSync, opendirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { messageOf } from "../errors.ts";
import { readRegularFile } from "./regular-file.ts";

export interface DatabaseFile {
  /** the name without `.db`: trackio's form of the project's name */
  project: string;
  path: string;
  /** changes when the database does */
  fingerprint: string;
}

/** Rows in a file that is never changed, written by trackio where SQLite is not to be trusted. */
export interface FragmentFile {
  writer: string;
  number: number;
  folder: string;
  /** below the folder */
  path: string;
}

export interface FolderListing {
  databases: DatabaseFile[];
  /** in order, by writer */
  fragments: FragmentFile[];
  /** Space that the agent wants for all projects that name none */
  spaceId: string | undefined;
  /** and for single projects */
  spaceIds: ReadonlyMap<string, string>;
  /** what cannot be used, by the file's name */
  problems: Map<string, string>;
}

const maxDatabases = 200;
/** of a folder; a writer's fragments are many */
const maxNames = 150_000;
/** of a folder itself: one that is smaller has some ten thousand names at most */
const largeFolderBytes = 1024 * 1024;
/** that are named */
const maxProblems = 50;
const maxFragments = 100_000;
const maxWriters = 1000;
const maxSpaceIdBytes = 200;
/** trackio's own reserved prefix: registries of artifacts */
const registryPrefix = "registry-";

/**
 * Throws when the folder itself cannot be read. A missing folder is an empty one. Fragments that are behind us are left
 * out.
 */
export function listFolder(
  folder: string,
  isBehind: (writer: string, number: number) => boolean = () => false,
): FolderListing {
  const problems = new LimitedMap();
  const names = listed(folder, problems, ".");
  const databases: DatabaseFile[] = [];
  for (const name of names.filter((each) => each.endsWith(".db") && !each.startsWith(registryPrefix))) {
    if (databases.length >= maxDatabases) {
      problems.set(name, `there are more than ${maxDatabases} databases; it is left out`);
      continue;
    }
    const project = name.slice(0, -3);
    if (!/^[\p{L}\p{N}_-]{1,200}$/u.test(project)) {
      problems.set(name, "its name is none that trackio gives");
      continue;
    }
    const path = join(folder, name);
    const fingerprint = fingerprintOf(path);
    if (fingerprint === undefined) problems.set(name, "it is not a regular file");
    else databases.push({ project, path, fingerprint });
  }
  return {
    databases,
    fragments: names.includes("inbox") ? fragmentsIn(folder, problems, isBehind) : [],
    spaceId: names.includes("space_id") ? wordIn(folder, "space_id", problems) : undefined,
    spaceIds: names.includes("spaces") ? wordsIn(folder, problems) : new Map(),
    problems,
  };
}

/** The first problems are enough to know. */
class LimitedMap extends Map<string, string> {
  override set(name: string, problem: string): this {
    return this.size < maxProblems || this.has(name) ? super.set(name, problem) : this;
  }
}

/** Size and time of the file, and of its log if it has one: trackio's last rows may be there alone. */
function fingerprintOf(path: string): string | undefined {
  const main = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  if (!main?.isFile()) return undefined;
  const log = lstatSync(`${path}-wal`, { bigint: true, throwIfNoEntry: false });
  return `${main.ino} ${main.size} ${main.mtimeNs}${log ? ` ${log.size} ${log.mtimeNs}` : ""}`;
}

function fragmentsIn(
  folder: string,
  problems: Map<string, string>,
  isBehind: (writer: string, number: number) => boolean,
): FragmentFile[] {
  const found: FragmentFile[] = [];
  const writers = namesIn(folder, "inbox", problems).filter((name) => /^[\w-]{1,64}$/.test(name));
  for (const writer of writers.slice(0, maxWriters)) {
    for (const name of namesIn(folder, join("inbox", writer), problems)) {
      const [, digits] = /^(\d{8})\.jsonl$/.exec(name) ?? [];
      if (digits === undefined || isBehind(writer, Number(digits))) continue;
      if (found.length >= maxFragments) {
        problems.set("inbox", `it holds more than ${maxFragments} fragments; the rest waits`);
        return found;
      }
      found.push({ writer, number: Number(digits), folder, path: join("inbox", writer, name) });
    }
  }
  return found;
}

function wordsIn(folder: string, problems: Map<string, string>): Map<string, string> {
  const words = namesIn(folder, "spaces", problems)
    .slice(0, maxDatabases)
    .map((name): [string, string | undefined] => [name, wordIn(folder, join("spaces", name), problems)]);
  return new Map(words.filter((entry): entry is [string, string] => entry[1] !== undefined));
}

/** The one word of a small file. */
function wordIn(folder: string, path: string, problems: Map<string, string>): string | undefined {
  try {
    return readRegularFile(folder, path, maxSpaceIdBytes).toString("utf8").trim() || undefined;
  } catch (error) {
    problems.set(path, messageOf(error));
    return undefined;
  }
}

/** Sorted, of a folder below the folder; none when it is a link or cannot be read. */
function namesIn(folder: string, path: string, problems: Map<string, string>): string[] {
  try {
    return listed(join(folder, path), problems, path);
  } catch (error) {
    problems.set(path, messageOf(error));
    return [];
  }
}

/** Some of the names where there are too many: nobody else's memory is to be filled with them. */
function listed(folder: string, problems: Map<string, string>, name: string): string[] {
  const stat = lstatSync(folder, { throwIfNoEntry: false });
  if (!stat?.isDirectory()) return [];
  // faster, and this is all that an idle look does
  if (stat.size < largeFolderBytes) return readdirSync(folder).sort();
  const names: string[] = [];
  using entries = opendirSync(folder);
  for (let entry = entries.readSync(); entry; entry = entries.readSync()) {
    if (names.length >= maxNames) {
      problems.set(name, `it holds more than ${maxNames} files; the rest is left out`);
      break;
    }
    names.push(entry.name);
  }
  return names.sort();
}
