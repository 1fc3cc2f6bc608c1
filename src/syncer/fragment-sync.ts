/** Sends JSON-lines fragments: each writer's in order, and a fragment is behind us when all of its rows were taken. */
import { messageOf } from "../errors.ts";
import type { Backoff } from "./backoff.ts";
import type { Destination } from "./destinations.ts";
import { type FragmentRows, readFragment } from "./fragments.ts";
import { alertEntry, metricsEntry, systemEntry } from "./payload.ts";
import type { CountedTable } from "./rows.ts";
import { type Entry, sendRows } from "./send-entries.ts";
import type { ProjectStatus } from "./syncer.ts";
import type { FragmentFile } from "./trackio-folder.ts";
import { ServerFailure } from "./trackio-server.ts";
import type { Watermarks } from "./watermarks.ts";

export interface Route {
  destination: Destination;
  status: ProjectStatus;
  backoff: Backoff;
}

/** fragments that travel together */
const maxFragments = 200;
const maxEntries = 500;

export class FragmentSync {
  readonly #watermarks: Watermarks;
  readonly #spend: (bytes: number) => void;

  constructor(watermarks: Watermarks, spend: (bytes: number) => void) {
    this.#watermarks = watermarks;
    this.#spend = spend;
  }

  /** `routeOf` says where a project goes now; undefined: nowhere. */
  async send(fragments: readonly FragmentFile[], routeOf: (project: string) => Route | undefined): Promise<void> {
    const writers = Map.groupBy(fragments, ({ writer }) => writer);
    for (const [writer, files] of writers) {
      const done = this.#watermarks.fragmentOf(writer);
      const waiting = files.filter(({ number }) => number > done);
      while (waiting.length > 0) {
        if (!(await this.#sendSome(writer, waiting.splice(0, maxFragments), routeOf))) break;
      }
    }
  }

  /** True when all were taken. */
  async #sendSome(
    writer: string,
    files: readonly FragmentFile[],
    routeOf: (project: string) => Route | undefined,
  ): Promise<boolean> {
    const all: FragmentRows = { metrics: [], system_metrics: [], alerts: [], unusable: 0 };
    const problems: string[] = [];
    for (const { inbox, path, number } of files) {
      try {
        const rows = readFragment(inbox, path);
        all.metrics.push(...rows.metrics);
        all.system_metrics.push(...rows.system_metrics);
        all.alerts.push(...rows.alerts);
        if (rows.unusable > 0) problems.push(`${rows.unusable} lines of fragment ${number} cannot be used`);
      } catch (error) {
        problems.push(`fragment ${number} cannot be read: ${messageOf(error)}`);
      }
    }
    const projects = new Set([...all.metrics, ...all.system_metrics, ...all.alerts].map(({ project }) => project));
    let areAllTaken = true;
    for (const project of projects) {
      const route = routeOf(project);
      if (!route) {
        areAllTaken = false;
        continue;
      }
      route.status.problems = [...route.status.problems, ...problems].slice(-20);
      areAllTaken = (await this.#sendProject(project, all, route)) && areAllTaken;
    }
    const last = files.at(-1)?.number;
    if (areAllTaken && last !== undefined) this.#watermarks.saveFragment(writer, last);
    return areAllTaken;
  }

  async #sendProject(project: string, all: FragmentRows, { destination, status, backoff }: Route): Promise<boolean> {
    const { runs } = this.#watermarks.progressOf(destination.name, project);
    const isMine = (each: { project: string; row: { runId: string } }) =>
      each.project === project && !runs.get(each.row.runId)?.isDeleted;
    const nameOf = ({ runId, run }: { runId: string; run: string }) => runs.get(runId)?.name ?? run;
    const metrics = all.metrics
      .filter(isMine)
      .map(({ row, config }) => ({ id: row.id, json: metricsEntry(project, nameOf(row), row, config) }));
    const system = all.system_metrics
      .filter(isMine)
      .map(({ row }) => ({ id: row.id, json: systemEntry(project, nameOf(row), row) }));
    const alerts = all.alerts
      .filter(isMine)
      .map(({ row }) => ({ id: row.id, json: alertEntry(project, nameOf(row), row) }));
    try {
      if (destination.server.version === undefined) await destination.server.probe();
      await this.#sendAll("metrics", metrics, destination, status);
      await this.#sendAll("system_metrics", system, destination, status);
      await this.#sendAll("alerts", alerts, destination, status);
      backoff.succeed();
      status.sent += metrics.length + system.length + alerts.length;
      Object.assign(status, { waiting: 0, syncedAt: Date.now(), error: null });
      return true;
    } catch (error) {
      if (!(error instanceof ServerFailure)) throw error;
      backoff.fail(Date.now(), error.retryAfterMs);
      Object.assign(status, { waiting: metrics.length + system.length + alerts.length, error: error.message });
      return false;
    }
  }

  async #sendAll(
    table: CountedTable,
    entries: readonly Entry[],
    { server }: Destination,
    status: ProjectStatus,
  ): Promise<void> {
    for (let start = 0; start < entries.length; start += maxEntries) {
      const refused = await sendRows(server, table, entries.slice(start, start + maxEntries), this.#spend);
      for (const { reason } of refused) status.problems.push(`a row of a fragment was refused: ${reason}`);
    }
  }
}
