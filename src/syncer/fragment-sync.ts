/** Sends JSON-lines fragments: each writer's in order, and a fragment is behind us when all of its rows were taken. */
import { messageOf } from "../errors.ts";
import type { Backoff } from "./backoff.ts";
import type { Destination } from "./destinations.ts";
import { type FragmentRows, readFragment } from "./fragments.ts";
import { alertEntry, metricsEntry, systemEntry } from "./payload.ts";
import type { CountedTable } from "./rows.ts";
import type { Entry } from "./send-entries.ts";
import type { ProjectStatus } from "./syncer.ts";
import type { FragmentFile } from "./trackio-folder.ts";
import { ServerFailure } from "./trackio-server.ts";
import type { Watermarks } from "./watermarks.ts";
import { sendOn, type Ways, waysTo } from "./ways.ts";

export interface Route {
  destination: Destination;
  status: ProjectStatus;
  backoff: Backoff;
  /** at once, also where a failure would be waited out */
  isForced: boolean;
}

interface TimedEntry extends Entry {
  timestamp: string;
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
    for (const { folder, path, number } of files) {
      try {
        const rows = readFragment(folder, path);
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

  async #sendProject(
    project: string,
    all: FragmentRows,
    { destination, status, backoff, isForced }: Route,
  ): Promise<boolean> {
    const { runs } = this.#watermarks.progressOf(destination.name, project);
    const isMine = (each: { project: string; row: { runId: string } }) =>
      each.project === project && !runs.get(each.row.runId)?.isDeleted;
    const nameOf = ({ runId, run }: { runId: string; run: string }) => runs.get(runId)?.name ?? run;
    const rowsOf = <Row extends { id: number; timestamp: string; runId: string; run: string }>(
      rows: readonly { project: string; row: Row; config: string | undefined }[],
      json: (name: string, row: Row, config: string | undefined) => string,
    ): TimedEntry[] =>
      rows.filter(isMine).map(({ row, config }) => {
        return { id: row.id, json: json(nameOf(row), row, config), timestamp: row.timestamp };
      });
    const metrics = rowsOf(all.metrics, (name, row, config) => metricsEntry(project, name, row, config));
    const system = rowsOf(all.system_metrics, (name, row) => systemEntry(project, name, row));
    const alerts = rowsOf(all.alerts, (name, row) => alertEntry(project, name, row));
    try {
      const ways = await waysTo(destination, backoff, isForced);
      if (!ways) return false;
      await this.#sendAll("metrics", metrics, ways, status);
      await this.#sendAll("system_metrics", system, ways, status);
      await this.#sendAll("alerts", alerts, ways, status);
      if (ways.isAwake) backoff.succeed();
      status.sent += metrics.length + system.length + alerts.length;
      Object.assign(status, { waiting: 0, syncedAt: Date.now(), error: null });
      return true;
    } catch (error) {
      if (!(error instanceof ServerFailure)) throw error;
      backoff.fail(Date.now(), error.retryAfterMs);
      if (error.kind === "later") destination.server.version = undefined;
      Object.assign(status, { waiting: metrics.length + system.length + alerts.length, error: error.message });
      return false;
    }
  }

  async #sendAll(
    table: CountedTable,
    entries: readonly TimedEntry[],
    ways: Ways,
    status: ProjectStatus,
  ): Promise<void> {
    for (let start = 0; start < entries.length; start += maxEntries) {
      const some = entries.slice(start, start + maxEntries);
      const times = some.map(({ timestamp }) => timestamp);
      const refused = await sendOn(ways, table, some, times, this.#spend);
      for (const { reason } of refused) status.problems.push(`a row of a fragment was refused: ${reason}`);
    }
  }
}
