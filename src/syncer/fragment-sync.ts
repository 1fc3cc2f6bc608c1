/** Sends JSON-lines fragments: each writer's in order, and a fragment is behind us when all of its rows were taken. */
import { messageOf } from "../errors.ts";
import type { Backoff } from "./backoff.ts";
import type { Destination } from "./destinations.ts";
import type { FragmentRows } from "./fragments.ts";
import { alertEntry, metricsEntry, systemEntry } from "./payload.ts";
import type { Reader } from "./reader.ts";
import type { CountedTable } from "./rows.ts";
import type { Entry } from "./send-entries.ts";
import type { ProjectStatus } from "./sync-status.ts";
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

const maxProblems = 20;
/** of rows in a request */
const maxEntries = 500;
/** of a request and of what is read at once; a fragment or a row may go over it */
const maxBytes = 1024 * 1024;

/** How far a writer's fragments are behind us in this process, and where the rows of its projects went. */
interface Behind {
  number: number;
  routes: Map<string, string | undefined>;
}

export class FragmentSync {
  readonly #reader: Reader;
  readonly #watermarks: Watermarks;
  readonly #spend: (bytes: number) => void;
  readonly #behind = new Map<string, Behind>();

  constructor(reader: Reader, watermarks: Watermarks, spend: (bytes: number) => void) {
    this.#reader = reader;
    this.#watermarks = watermarks;
    this.#spend = spend;
  }

  /** Whether a fragment need not be looked at. */
  isBehind(writer: string, number: number): boolean {
    return number <= (this.#behind.get(writer)?.number ?? -1);
  }

  /** Forgets how far we are with a writer when a project of it goes elsewhere now. */
  noteRoutes(destinationOf: (project: string) => string | undefined): void {
    for (const [writer, { routes }] of this.#behind) {
      const hasChanged = [...routes].some(([project, name]) => destinationOf(project) !== name);
      if (hasChanged) this.#behind.delete(writer);
    }
  }

  /** `routeOf` says where a project goes now; undefined: nowhere. Returns what is wrong with fragments, in words. */
  async send(fragments: readonly FragmentFile[], routeOf: (project: string) => Route | undefined): Promise<string[]> {
    const problems: string[] = [];
    for (const [writer, waiting] of Map.groupBy(fragments, (each) => each.writer)) {
      try {
        while (waiting.length > 0) {
          const { rows, taken, problems: found } = await this.#reader.fragmentLot(waiting, maxBytes);
          problems.push(...found);
          const lot = waiting.splice(0, Math.max(1, taken));
          if (!(await this.#sendLot(writer, lot.at(-1)?.number ?? 0, rows, routeOf))) break;
        }
      } catch (error) {
        problems.push(`fragments of ${writer} cannot be sent: ${messageOf(error)}`);
      }
    }
    return problems;
  }

  /** True when all were taken that go anywhere. */
  async #sendLot(
    writer: string,
    last: number,
    rows: FragmentRows,
    routeOf: (project: string) => Route | undefined,
  ): Promise<boolean> {
    const behind = this.#behind.get(writer) ?? { number: -1, routes: new Map() };
    const projects = new Set([...rows.metrics, ...rows.system_metrics, ...rows.alerts].map(({ project }) => project));
    let areAllTaken = true;
    for (const project of projects) {
      const route = routeOf(project);
      behind.routes.set(project, route?.destination.name);
      if (!route) continue;
      const isTaken = await this.#sendProject(project, writer, rows, route);
      if (isTaken) this.#watermarks.saveFragment(route.destination.name, project, writer, last);
      areAllTaken &&= isTaken;
    }
    if (areAllTaken) this.#behind.set(writer, { ...behind, number: last });
    return areAllTaken;
  }

  async #sendProject(
    project: string,
    writer: string,
    all: FragmentRows,
    { destination, status, backoff, isForced }: Route,
  ): Promise<boolean> {
    const { runs } = this.#watermarks.progressOf(destination.name, project);
    const done = this.#watermarks.fragmentOf(destination.name, project, writer);
    const isMine = (each: { number: number; project: string; row: { runId: string } }) =>
      each.number > done && each.project === project && !runs.get(each.row.runId)?.isDeleted;
    const nameOf = ({ runId, run }: { runId: string; run: string }) => runs.get(runId)?.name ?? run;
    const rowsOf = <Row extends { id: number; timestamp: string; runId: string; run: string }>(
      rows: readonly { number: number; project: string; row: Row; config: string | undefined }[],
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
    for (const some of batchesOf(entries)) {
      const times = some.map(({ timestamp }) => timestamp);
      const refused = await sendOn(ways, table, some, times, this.#spend);
      const words = refused.map(({ reason }) => `a row of a fragment was refused: ${reason}`);
      status.problems = [...status.problems, ...words].slice(-maxProblems);
    }
  }
}

function* batchesOf(entries: readonly TimedEntry[]): Generator<TimedEntry[]> {
  let batch: TimedEntry[] = [];
  let bytes = 0;
  for (const entry of entries) {
    if (batch.length > 0 && (batch.length >= maxEntries || bytes + entry.json.length > maxBytes)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(entry);
    bytes += entry.json.length;
  }
  if (batch.length > 0) yield batch;
}
