/** What a trackio folder holds, read by the reader's process: this one opens no database of somebody hostile. */
import { sanitizeDeep, sanitizeText } from "../sanitize.ts";
import type { FragmentPath, ProjectCurves, RunCurves } from "../syncer/curves.ts";
import type { Access } from "../syncer/database.ts";
import { type OpenReader, Reader } from "../syncer/reader.ts";
import { type FolderListing, listFolder } from "../syncer/trackio-folder.ts";

/** Names; none of a kind: all. A metric's name also stands for those below it: `eval` for `eval/loss`. */
export interface MetricsFilter {
  projects: readonly string[];
  /** names or ids */
  runs: readonly string[];
  metrics: readonly string[];
}

/** Its strings have no control characters. */
export interface ProjectMetrics {
  project: string;
  /** undefined when it cannot be read: `error` says why */
  curves: ProjectCurves | undefined;
  error: string | undefined;
}

export interface FolderMetrics {
  /** those with something that was asked for, by name */
  projects: ProjectMetrics[];
  /** what else in the folder cannot be used */
  problems: string[];
}

/** extremes of so many parts of a curve are kept: more than the columns of most terminals */
const columns = 200;

export class MetricsFolder implements Disposable {
  readonly #path: string;
  readonly #access: Access;
  readonly #filter: MetricsFilter;
  readonly #reader: Reader;
  /** by project */
  readonly #known = new Map<string, { fingerprint: string; metrics: ProjectMetrics }>();
  #fragments: { fingerprint: string; byProject: ReadonlyMap<string, FragmentPath[]> } = {
    fingerprint: "",
    byProject: new Map(),
  };

  /** `access`: "published" for the copies in a session's volume, "live" where trackio writes. */
  constructor(path: string, access: Access, filter: MetricsFilter, openReader?: OpenReader) {
    this.#path = path;
    this.#access = access;
    this.#filter = filter;
    this.#reader = new Reader(openReader);
  }

  /** A database that has not changed since the last time is not read again. Throws when the folder cannot be read. */
  async read(): Promise<FolderMetrics> {
    const listing = listFolder(this.#path);
    const problems = [...listing.problems].map(([name, problem]) => sanitizeText(`${name}: ${problem}`));
    const fragments = await this.#fragmentsOf(listing).catch((error: Error) => {
      problems.push(sanitizeText(`inbox: ${error.message}`));
      return new Map<string, FragmentPath[]>();
    });
    const databases = new Map(listing.databases.map((database) => [database.project, database]));
    const names = [...new Set([...databases.keys(), ...fragments.keys()])].sort();
    const projects: ProjectMetrics[] = [];
    for (const project of names.filter((name) => this.#isWanted(name))) {
      const database = databases.get(project);
      const own = fragments.get(project) ?? [];
      const fingerprint = `${database?.fingerprint} ${own.map(({ path }) => path).join(" ")}`;
      const known = this.#known.get(project);
      const metrics = known?.fingerprint === fingerprint ? known.metrics : await this.#project(project, database, own);
      // what failed may only have been locked
      if (metrics.error === undefined) this.#known.set(project, { fingerprint, metrics });
      if (metrics.error !== undefined || (metrics.curves?.runs.length ?? 0) > 0) projects.push(metrics);
    }
    return { projects, problems };
  }

  [Symbol.dispose](): void {
    this.#reader[Symbol.dispose]();
  }

  async #fragmentsOf({ fragments }: FolderListing): Promise<ReadonlyMap<string, FragmentPath[]>> {
    if (fragments.length === 0) return new Map();
    const paths = fragments.map(({ folder, path }) => ({ folder, path }));
    const fingerprint = paths.map(({ path }) => path).join(" ");
    if (fingerprint !== this.#fragments.fingerprint) {
      this.#fragments = {
        fingerprint,
        byProject: new Map(Object.entries(await this.#reader.fragmentsByProject(paths))),
      };
    }
    return this.#fragments.byProject;
  }

  #isWanted(project: string): boolean {
    const { projects } = this.#filter;
    // a database has only the letters, digits, "-" and "_" of the name that the program gave
    return projects.length === 0 || projects.some((name) => name.replace(/[^\p{L}\p{N}_-]/gu, "") === project);
  }

  async #project(
    project: string,
    database: { path: string } | undefined,
    fragments: FragmentPath[],
  ): Promise<ProjectMetrics> {
    const { runs, metrics } = this.#filter;
    try {
      const asked = { project, path: database?.path, access: this.#access, fragments, columns, runs, metrics };
      const curves = sanitizeDeep(await this.#reader.curves(asked));
      const isWanted = (run: RunCurves) => metrics.length === 0 || run.metrics.length + run.system.length > 0;
      return { project, curves: { ...curves, runs: curves.runs.filter(isWanted) }, error: undefined };
    } catch (error) {
      return { project, curves: undefined, error: sanitizeText((error as Error).message) };
    }
  }
}
