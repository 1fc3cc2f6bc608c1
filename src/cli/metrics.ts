/** `modal-sb metrics`: what a session's programs have logged with trackio, as runs and curves in the terminal. */
import { statSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout } from "node:timers/promises";
import type { Config, Environment } from "../config/load.ts";
import { exitCodes, UsageError } from "../errors.ts";
import type { Provider } from "../sandbox/provider.ts";
import { createProvider } from "../sandbox/sandbox.ts";
import { sanitizeDeep } from "../sanitize.ts";
import { openReaderSandbox, type ReaderSandbox } from "../session/reader-sandbox.ts";
import { volumeFolders } from "../session/volume-copy.ts";
import type { RunCurves, Series } from "../syncer/curves.ts";
import type { Access } from "../syncer/database.ts";
import { sessionsByTime } from "./accounts.ts";
import { type FolderMetrics, type MetricsFilter, MetricsFolder } from "./metrics-folder.ts";
import { Screen } from "./metrics-screen.ts";
import { folderText, type TextOptions } from "./metrics-text.ts";
import { limitsOf } from "./open.ts";
import type { Output } from "./output.ts";

export interface MetricsRequest extends MetricsFilter {
  session: string | undefined;
  folder: string | undefined;
  json: boolean;
  follow: boolean;
}

interface Source {
  path: string;
  access: Access;
  session?: string;
  /** brought from a provider's volume, once */
  isCopy?: boolean;
  /** for people */
  name: string;
}

/** between two looks, in milliseconds */
const followMs = 2000;
const pipeWidth = 100;
const leastWidth = 40;
const chartHeight = 9;

/**
 * Prints once, or with `follow` until it is interrupted or `stop` fires. Exit code 0 when all that was asked for could be
 * shown, 2 when there is nothing to show, or when some of it could not be read.
 */
export async function showMetrics(
  request: MetricsRequest,
  provider: Provider,
  config: Config,
  output: Output,
  stop: AbortSignal,
  environment: Environment,
): Promise<number> {
  const source = request.folder === undefined ? await ofSession(request, provider, config) : ofFolder(request);
  if (request.follow && source.isCopy) {
    throw new UsageError("Metrics that are elsewhere cannot be followed", {
      hint: "without --follow, they are brought here",
    });
  }
  await using sandbox =
    source.access === "published" ? await readerSandbox(source, provider, config, environment) : undefined;
  using folder = new MetricsFolder(source.path, source.access, request, sandbox?.open);
  if (request.follow) return await follow(folder, request, source, output, stop);
  const metrics = await folder.read();
  const isWhole = metrics.problems.length === 0 && metrics.projects.every(({ error }) => error === undefined);
  if (isWhole && metrics.projects.length === 0) throw nothingIn(source, request);
  if (request.json) {
    for (const line of jsonLines(metrics).values()) output.data(line);
    for (const problem of problemsIn(metrics)) output.note(output.red(problem));
  } else output.data(`${folderText(metrics, textOptions(output))}\n`);
  return isWhole ? exitCodes.success : exitCodes.usage;
}

/**
 * A trackio folder's runs and curves as text, without a newline at the end; empty when there are none. `access`: "published" for a
 * folder whose files are replaced as wholes, as in a session's volume.
 */
export async function metricsText(path: string, access: Access, options: TextOptions): Promise<string> {
  using folder = new MetricsFolder(path, access, { projects: [], runs: [], metrics: [] });
  return folderText(await folder.read(), options);
}

async function ofSession({ session }: MetricsRequest, provider: Provider, config: Config): Promise<Source> {
  const name = session ?? sessionsByTime(config).at(-1);
  if (name === undefined) throw new UsageError("There is no session yet", { hint: "modal-sb starts one" });
  const { stateFolder } = config.settings;
  const volume = `${name}-trackio`;
  const path = (await volumeFolders([volume], { provider, stateFolder, limits: limitsOf(config.settings) })).get(
    volume,
  );
  const isCopy = path?.startsWith(join(stateFolder, "copies")) ?? false;
  if (path !== undefined) return { path, access: "published", session: name, isCopy, name: `The session "${name}"` };
  if ((await provider.peek(`${name}-audit`)) !== undefined) throw nothingIn({ name: `The session "${name}"` });
  throw new UsageError(`There is no session "${name}"`, { hint: "modal-sb usage lists them" });
}

/** An agent wrote these databases: what opens them has no network, no rights, and nothing else to see. */
async function readerSandbox(
  { path, session, isCopy }: Source,
  provider: Provider,
  { settings }: Config,
  environment: Environment,
): Promise<ReaderSandbox> {
  const limits = limitsOf(settings);
  const { stateFolder } = settings;
  return await openReaderSandbox({
    // a copy is on this machine, and so is the sandbox that may open it
    provider: !isCopy ? provider : await createProvider("local", { stateFolder, hostEnvironment: environment }),
    session: session ?? "",
    folder: path,
    limits,
    stateFolder: settings.stateFolder,
  });
}

function ofFolder({ folder = "", session }: MetricsRequest): Source {
  if (session !== undefined) {
    throw new UsageError("A session and --folder exclude each other", { hint: "leave one of them out" });
  }
  const path = resolve(folder);
  if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) {
    throw new UsageError(`There is no folder "${path}"`, { hint: "trackio's own is ~/.cache/huggingface/trackio" });
  }
  return { path, access: "live", name: `The folder "${path}"` };
}

function nothingIn({ name }: Pick<Source, "name">, filter?: MetricsFilter): UsageError {
  const isFiltered = filter && [filter.projects, filter.runs, filter.metrics].some((names) => names.length > 0);
  if (!isFiltered) {
    return new UsageError(`${name} has no metrics yet`, { hint: "they come with the first trackio.log() in it" });
  }
  const hint = "without --project, --run and --metric, modal-sb metrics shows what there is";
  return new UsageError(`${name} has no such metrics`, { hint });
}

async function follow(
  folder: MetricsFolder,
  { json }: MetricsRequest,
  { name }: Source,
  output: Output,
  stop: AbortSignal,
): Promise<number> {
  const interrupted = new AbortController();
  process.once("SIGINT", () => interrupted.abort());
  const signal = AbortSignal.any([stop, interrupted.signal]);
  using screen = json ? undefined : new Screen(output);
  const told = new Map<string, string>();
  const tell = (lines: ReadonlyMap<string, string>, print: (line: string) => void) => {
    for (const [key, line] of lines) {
      if (told.get(key) !== line) print(line);
      told.set(key, line);
    }
  };
  while (!signal.aborted) {
    const metrics = await folder.read();
    if (screen) screen.show(folderText(metrics, textOptions(output)) || `${name} has no metrics yet`);
    else {
      tell(jsonLines(metrics), (line) => output.data(line));
      tell(new Map(problemsIn(metrics).map((each) => [each, each])), (line) => output.note(output.red(line)));
    }
    await setTimeout(followMs, undefined, { signal }).catch(() => {});
  }
  stop.throwIfAborted();
  return exitCodes.success;
}

function textOptions({ isTerminal }: Output): TextOptions {
  if (!isTerminal) return { width: pipeWidth, chartHeight, isColored: false, now: undefined };
  const { stdout } = process;
  // hasColors knows NO_COLOR; a terminal may not know its size
  return {
    width: Math.max(leastWidth, stdout.columns || pipeWidth),
    chartHeight,
    isColored: stdout.hasColors(),
    now: Date.now(),
  };
}

function problemsIn({ projects, problems }: FolderMetrics): string[] {
  const unread = projects.filter(({ error }) => error !== undefined);
  return [...unread.map(({ project, error }) => `${project} cannot be read: ${error}`), ...problems];
}

/** A line a run, by project and run. */
function jsonLines({ projects }: FolderMetrics): Map<string, string> {
  return new Map(
    projects.flatMap(({ project, curves }) =>
      (curves?.runs ?? []).map(
        (run) => [`${project} ${run.runId}`, `${JSON.stringify(jsonOf(project, run))}\n`] as const,
      ),
    ),
  );
}

/** What `--json` prints of a run. */
interface RunLine {
  project: string;
  run: string;
  runId: string;
  /** of metrics */
  rows: number;
  firstStep: number | null;
  lastStep: number | null;
  /** ISO 8601 */
  lastTimestamp: string | null;
  alerts: number;
  /** null: none, or a very long one */
  config: unknown;
  /** by name; NaN and infinities are words, other values that are no numbers are described: "(image)" */
  latest: Record<string, Series["latest"]>;
  system: Record<string, Series["latest"]>;
}

function jsonOf(project: string, { metrics, system, config, ...facts }: RunCurves): RunLine {
  const { run, runId, rows, firstStep, lastStep, lastTimestamp, alerts } = facts;
  const latestOf = (series: readonly Series[]) => Object.fromEntries(series.map(({ name, latest }) => [name, latest]));
  return {
    ...{ project, run, runId, rows, firstStep, lastStep, lastTimestamp, alerts },
    config: config === null ? null : sanitizeDeep(JSON.parse(config) as unknown),
    latest: latestOf(metrics),
    system: latestOf(system),
  };
}
