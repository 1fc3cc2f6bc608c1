/** `modal-sb init`: an editable copy of a template in a project. What is there is never replaced unasked. */
import {
  chmodSync,
  type Dirent,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { exitCodes, ModalSbError, messageOf, UsageError } from "../errors.ts";
import { bundledInstructions } from "../session/runtime-files.ts";
import { askAtTerminal } from "./ask.ts";
import type { InitRequest, TemplateName } from "./init-templates.ts";
import type { Output } from "./output.ts";

const homeFolder = ".claude";
const projectFile = "modal-sb.json";
/** src/cli/ of a checkout and dist/cli/ of a package lie equally deep */
const templates = join(import.meta.dirname, "../../templates");

interface Template {
  folder: string;
  /** what a project's file may set */
  settings: Readonly<Record<string, unknown>>;
}

const templateOf: Readonly<Record<TemplateName, Template>> = {
  ml: { folder: bundledInstructions, settings: { instructions: homeFolder, egress: "ml" } },
  code: { folder: join(templates, "code"), settings: { instructions: homeFolder } },
  empty: { folder: join(templates, "empty"), settings: { instructions: homeFolder } },
};

interface PlannedFile {
  /** below the project's folder */
  path: string;
  bytes: Buffer;
  mode: number;
  state: "missing" | "same" | "differs";
}

/** Writes what is missing, and asks about the rest. Throws a UsageError where it must not write, or cannot. */
export async function init(request: InitRequest, output: Output): Promise<number> {
  const project = resolve(request.folder ?? ".");
  try {
    refuseUnfit(project);
    await write(project, request, output);
  } catch (error) {
    if (error instanceof ModalSbError) throw error;
    throw new UsageError(`Cannot write to ${project}: ${messageOf(error)}`, {
      hint: "each file that was made before is whole; the same command goes on",
    });
  }
  return exitCodes.success;
}

async function write(project: string, { template, force }: InitRequest, output: Output): Promise<void> {
  const { folder: source, settings } = templateOf[template];
  const plan = filesOf(source).map((path) => planned(project, source, path));
  const differing = plan.filter(({ state }) => state === "differs");
  for (const { path } of differing) output.note(`differs from the template: ${path}`);
  const question = `Replace ${differing.length === 1 ? "it" : `these ${differing.length} files`} with the template's?`;
  const isReplacing = differing.length > 0 && (force || (output.isTerminal && (await askAtTerminal(question))));
  for (const file of plan) {
    const isPut = file.state === "missing" || (file.state === "differs" && isReplacing);
    if (isPut) put(project, file);
    output.data(
      `${file.state === "missing" ? "made" : isPut ? "replaced" : file.state === "same" ? "same" : "kept"} ${file.path}\n`,
    );
  }
  const advice = putSettings(project, settings, output);
  tellNext(project, { template, advice, isKept: differing.length > 0 && !isReplacing }, output);
}

/** The home folder's own .claude holds Claude Code's login and all its conversations: it must not become an agent's. */
function refuseUnfit(project: string): void {
  const real = statSync(project, { throwIfNoEntry: false }) ? realpathSync(project) : project;
  if (real === realpathSync(homedir())) {
    throw new UsageError(`${homeFolder} in your home folder is Claude Code's own, with your login in it`, {
      hint: "modal-sb init <folder> makes a project elsewhere",
    });
  }
  const home = lstatSync(join(project, homeFolder), { throwIfNoEntry: false });
  if (home && !home.isDirectory()) {
    throw new UsageError(`${join(project, homeFolder)} is no folder of its own: nothing is written through links`, {
      hint: "move it away",
    });
  }
}

function filesOf(folder: string, below = ""): string[] {
  const entries: Dirent[] = readdirSync(join(folder, below), { withFileTypes: true });
  return entries
    .filter(({ name }) => name !== "__pycache__")
    .sort((one, other) => (one.name < other.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(below, entry.name);
      return entry.isDirectory() ? filesOf(folder, path) : [path];
    });
}

function planned(project: string, source: string, file: string): PlannedFile {
  const path = join(homeFolder, file);
  const bytes = readFileSync(join(source, file));
  const isProgram = (statSync(join(source, file)).mode & 0o100) !== 0;
  const there = lstatSync(join(project, path), { throwIfNoEntry: false });
  for (let above = dirname(path); above !== "."; above = dirname(above)) {
    const stat = lstatSync(join(project, above), { throwIfNoEntry: false });
    if (stat && !stat.isDirectory()) throw notOurs(join(project, above));
  }
  if (there?.isDirectory()) throw notOurs(join(project, path));
  const isSame = there?.isFile() === true && readFileSync(join(project, path)).equals(bytes);
  return { path, bytes, mode: isProgram ? 0o755 : 0o644, state: !there ? "missing" : isSame ? "same" : "differs" };
}

function notOurs(path: string): UsageError {
  return new UsageError(`The template has another kind of file at ${path}`, { hint: "move it away" });
}

/** Whole or not at all; a link that is replaced is not followed. */
function put(project: string, { path, bytes, mode }: Pick<PlannedFile, "path" | "bytes" | "mode">): void {
  const place = join(project, path);
  const draft = `${place}.${process.pid}.tmp`;
  makeFolder(dirname(place));
  try {
    writeFileSync(draft, bytes, { flag: "wx" });
    // as the template has it, and as the user's umask wants it
    chmodSync(draft, mode & ~process.umask());
    renameSync(draft, place);
  } finally {
    rmSync(draft, { force: true });
  }
}

/** One by one: with `recursive`, node never ends where nothing can be made, as in /proc. */
function makeFolder(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })) return;
  makeFolder(dirname(path));
  mkdirSync(path);
}

/** What the user should add to a file that is there; undefined: nothing. */
function putSettings(project: string, settings: Template["settings"], output: Output): string | undefined {
  const path = join(project, projectFile);
  if (!lstatSync(path, { throwIfNoEntry: false })) {
    put(project, { path: projectFile, bytes: Buffer.from(`${JSON.stringify(settings, null, 2)}\n`), mode: 0o644 });
    output.data(`made ${projectFile}\n`);
    return undefined;
  }
  output.data(`kept ${projectFile}\n`);
  let there: unknown;
  try {
    there = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    return `${projectFile} cannot be read (${messageOf(error)}); it needs "instructions": "${homeFolder}"`;
  }
  const known = (typeof there === "object" ? there : {}) as Record<string, unknown> | null;
  const lacking = Object.entries(settings).filter(([name, value]) => {
    const set = known?.[name];
    // another egress policy is the user's choice; other instructions would leave the copy unused
    return set === undefined || (name === "instructions" && !isSameFolder(project, set, value));
  });
  if (lacking.length === 0) return undefined;
  const words = lacking.map(([name, value]) => `"${name}": ${JSON.stringify(value)}`);
  return `${projectFile} was not changed; put ${words.join(", ")} into it`;
}

function isSameFolder(project: string, one: unknown, other: unknown): boolean {
  return typeof one === "string" && resolve(project, one) === resolve(project, String(other));
}

function tellNext(
  project: string,
  { template, advice, isKept }: { template: TemplateName; advice: string | undefined; isKept: boolean },
  output: Output,
): void {
  if (isKept) output.note("What differs was kept; --force replaces it.");
  if (advice !== undefined) output.note(advice);
  const at = relative(process.cwd(), project);
  output.note(
    [
      "Next:",
      `  edit ${join(at, homeFolder, "CLAUDE.md")}: what stands in {{…}} is filled in for each sandbox`,
      `  ${at === "" ? "" : `cd ${at} && `}modal-sb${template === "ml" ? " --metrics you/metrics:create" : ""}`,
    ].join("\n"),
  );
}
