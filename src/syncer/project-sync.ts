/** One trackio database on its way to one destination: what is new is sent, what was taken is remembered. */
import type { Access } from "./database.ts";
import { DeltaReader, lastIn, maxBytes, maxRows } from "./delta-reader.ts";
import { alertEntry, mediaIn, metricsEntry, systemEntry } from "./payload.ts";
import type { Reader } from "./reader.ts";
import { type RemoteRuns, remoteAnchor, remoteRuns } from "./remote-runs.ts";
import {
  type ConfigRow,
  type CountedTable,
  countedTables,
  type Delta,
  type MetricsRow,
  type Position,
  type Table,
} from "./rows.ts";
import type { Entry, Refused } from "./send-entries.ts";
import { ServerFailure, type TrackioServer } from "./trackio-server.ts";
import type { MediaFile, Progress, RefusedRow, RunState, Watermarks } from "./watermarks.ts";
import { sendOn, type Ways } from "./ways.ts";

/** all is sent again at most so many times in so many milliseconds: a server may keep nothing */
const maxRewinds = 3;
const rewindMs = 300_000;

export interface ProjectParts {
  /** names the destination in the watermarks */
  destination: string;
  /** the database's name without its ending: trackio's own form of the project's name */
  project: string;
  path: string;
  access: Access;
  server: TrackioServer;
  reader: Reader;
  watermarks: Watermarks;
  /** called with the bytes of each request before it is sent; throws when they may not leave now */
  spend: (bytes: number) => void;
  /** whether files that rows name are to be sent, too */
  withMedia: boolean;
}

type RowOf<Name extends CountedTable> = Delta[Name][number];

/** What one step did. */
export interface Step {
  /** rows that the server took, without those that were sent again */
  sent: number;
  /** about how many rows are yet to be sent */
  waiting: number;
  /** another step would get further */
  hasMore: boolean;
  /** rows that cannot be used or were refused, in words */
  problems: string[];
}

export class ProjectSync {
  readonly #parts: ProjectParts;
  readonly #progress: Progress;
  readonly #deltas: DeltaReader;
  /** as of the last step */
  #ways: Ways;
  /** configs that were sent ahead of the position, by run */
  readonly #configs = new Map<string, number>();
  /** what was found missing and sent again, so that the same loss is not repaired for ever */
  readonly #repaired = new Map<string, number>();
  /** milliseconds since 1970 at which all was sent again */
  #rewinds: number[] = [];

  constructor(parts: ProjectParts) {
    this.#parts = parts;
    this.#deltas = new DeltaReader(parts.reader, { path: parts.path, access: parts.access });
    this.#ways = { server: parts.server, inbox: undefined, isAwake: true };
    this.#progress = parts.watermarks.progressOf(parts.destination, parts.project);
  }

  /** Sends one batch of each table. Throws a ServerFailure, or an Error that says what is wrong with the database. */
  async step(ways: Ways): Promise<Step> {
    this.#ways = ways;
    const isFirst = this.#progress.positions.metrics.id === 0 && this.#progress.runs.size === 0;
    if (isFirst) await this.#learnWhatIsThere();
    let delta = await this.#deltas.next(this.#progress.positions);
    if (!delta.isSame) {
      this.#parts.watermarks.rewind(this.#parts.destination, this.#parts.project);
      this.#reload();
      await this.#learnWhatIsThere();
      delta = await this.#deltas.next(this.#progress.positions);
    }
    this.#deltas.readAhead(this.#progress.positions, delta);
    await this.#learnOfRewritten(delta.metrics);
    const before = JSON.stringify(this.#progress.positions);
    const step: Step = { sent: 0, waiting: 0, hasMore: false, problems: [] };
    await this.#sendMetrics(delta, step);
    await this.#sendRows("system_metrics", delta, step);
    await this.#sendRows("alerts", delta, step);
    step.waiting = this.#waiting(delta.last);
    const areAllBehind = step.waiting === 0 && delta.last.configs <= this.#progress.positions.configs.id;
    step.hasMore = !areAllBehind && JSON.stringify(this.#progress.positions) !== before;
    if (!step.hasMore) this.#deltas.forget();
    return step;
  }

  /** About how many rows are yet to be sent, without asking the destination. */
  async countWaiting(): Promise<number> {
    const { reader, path, access } = this.#parts;
    const { positions } = this.#progress;
    const { last } = await reader.delta({ path, access, after: positions, maxRows: 1, maxBytes: 1 });
    return this.#waiting(last);
  }

  #waiting(last: Delta["last"]): number {
    return countedTables.reduce((sum, table) => sum + Math.max(0, last[table] - this.#progress.positions[table].id), 0);
  }

  /** Compares both sides; sends again what the server lost, and respects what somebody renamed or deleted there. */
  async verify(): Promise<Step> {
    const step: Step = { sent: 0, waiting: 0, hasMore: false, problems: [] };
    const { reader, path, access, project, server } = this.#parts;
    for (const table of countedTables) {
      const { id: upTo } = this.#progress.positions[table];
      if (upTo === 0) continue;
      const remote = await remoteRuns(server, project, table);
      if (remote === "unsupported") continue;
      if (remote === "no project" || (table === "metrics" && (await this.#isAnother(remote)))) {
        this.#rewinds = this.#rewinds.filter((at) => Date.now() - at < rewindMs);
        if (this.#rewinds.length >= maxRewinds) {
          throw new ServerFailure("content", "the server loses what it is sent; all is sent again in some minutes");
        }
        this.#rewinds.push(Date.now());
        // the server has lost all: what people deleted stays deleted
        this.#parts.watermarks.rewind(this.#parts.destination, project);
        this.#reload();
        step.hasMore = true;
        return step;
      }
      for (const { runId, rows } of await reader.countRuns(path, access, table, upTo)) {
        const missing = this.#compare(table, runId, rows, remote);
        if (missing === 0) continue;
        await this.#repair(table, runId, upTo);
        this.#repaired.set(`${table}:${runId}`, missing);
        // whether it helped is seen when both sides are compared again
        step.hasMore = true;
      }
    }
    return step;
  }

  /** Tries rows again that were refused. */
  async retryRefused(): Promise<Step> {
    const step: Step = { sent: 0, waiting: 0, hasMore: false, problems: [] };
    const { watermarks, destination, project, reader, path, access } = this.#parts;
    for (const refused of watermarks.refusedRows(destination, project)) {
      const table = refused.table as CountedTable;
      const after = { ...this.#progress.positions, [table]: { id: refused.id - 1, key: "" } };
      const delta = await reader.delta({ path, access, after, maxRows: 1, maxBytes });
      const row = delta[table]?.find(({ id }) => id === refused.id);
      const refusedAgain = row ? await this.#tryAgain(table, row) : [];
      if (refusedAgain.length === 0) watermarks.dropRefused(destination, project, refused);
      else step.problems.push(...this.#words(refusedAgain, table));
    }
    return step;
  }

  async #tryAgain(table: CountedTable, row: RowOf<CountedTable>): Promise<Refused[]> {
    try {
      return await this.#send(table, [this.#entry(table, row)], [row.timestamp]);
    } catch (error) {
      // the next one may be taken
      if (error instanceof ServerFailure && error.kind === "content") return [{ id: row.id, reason: error.message }];
      throw error;
    }
  }

  async #sendMetrics(delta: Delta, step: Step): Promise<void> {
    const last = Math.max(delta.metrics.at(-1)?.id ?? 0, this.#progress.positions.metrics.id);
    const configs = delta.configs.filter(({ id, key, carrier }) => {
      return carrier !== null && carrier.id <= last && this.#configs.get(key) !== id;
    });
    const carriers = configs.filter(({ key, run: name, carrier }) => {
      const run = this.#progress.runs.get(key);
      // a run that was renamed has rows under other names there: its carrier would be a row twice
      const isSameHere = run?.localName === name || (run?.localName === "" && carrier?.isUnnamed === false);
      return !run || (!run.isDeleted && run.skip === 0 && run.name === name && isSameHere);
    });
    const refused = await this.#sendRows("metrics", delta, step, carriers);
    for (const { id, key, carrier } of configs) {
      if (!carrier || !refused.has(-carrier.id)) this.#configs.set(key, id);
    }
    this.#passConfigs(delta.configs);
  }

  /** The position goes up to the first config that could not travel yet. */
  #passConfigs(configs: readonly ConfigRow[]): void {
    let position: Position | undefined;
    for (const { id, key } of configs) {
      if (this.#configs.get(key) !== id) break;
      position = { id, key };
    }
    if (position) this.#advance("configs", position, [], []);
  }

  /** Returns the ids of entries that were refused; configs have their carriers', negative. */
  async #sendRows(
    table: CountedTable,
    delta: Delta,
    step: Step,
    configs: readonly ConfigRow[] = [],
  ): Promise<ReadonlySet<number>> {
    const rows = delta[table] as RowOf<typeof table>[];
    const unusable = delta.unusable.filter((row) => row.table === table);
    const touched = new Map<string, RunState>();
    const toSend = rows.filter((row) => this.#isToSend(table, row, touched));
    const entries = toSend.map((row) => this.#entry(table, row));
    const carried = configs.flatMap(({ carrier, config }) => (carrier ? [this.#configEntry(carrier, config)] : []));
    const times = toSend.map(({ timestamp }) => timestamp);
    const refused = await this.#send(table, [...entries, ...carried], times);
    const lost: RefusedRow[] = refused.flatMap(({ id, reason }) =>
      toSend.some((row) => row.id === id) ? [{ table, id, reason, at: Date.now() }] : [],
    );
    for (const { id, reason } of unusable) step.problems.push(`row ${id} of ${table} cannot be used: ${reason}`);
    step.problems.push(...this.#words(refused, table));
    step.sent += toSend.length - lost.length;
    const refusedIds = new Set(refused.map((entry) => entry.id));
    const last = lastIn(delta, table);
    if (!last) return refusedIds;
    const files = this.#parts.withMedia && table === "metrics" ? this.#filesOf(toSend as MetricsRow[]) : [];
    this.#advance(table, last, lost, files, touched);
    return refusedIds;
  }

  /** False for rows of runs that were deleted there, and for those that are there under other names. */
  #isToSend(table: CountedTable, row: RowOf<CountedTable>, touched: Map<string, RunState>): boolean {
    const run = this.#runOf(row.runId, row.run);
    touched.set(row.runId, run);
    if (!row.isUnnamed) run.localName = row.run;
    if (table === "metrics" && run.skip > 0) {
      run.skip -= 1;
      return false;
    }
    return !run.isDeleted;
  }

  #runOf(runId: string, name: string): RunState {
    const known = this.#progress.runs.get(runId);
    if (known) return known;
    const run: RunState = { name, localName: name, skip: 0, isConfirmed: false, isDeleted: false };
    this.#progress.runs.set(runId, run);
    return run;
  }

  #entry(table: CountedTable, row: RowOf<CountedTable>): Entry {
    const { project } = this.#parts;
    const name = this.#runOf(row.runId, row.run).name;
    const { id } = row;
    if (table === "metrics") return { id, json: metricsEntry(project, name, row as RowOf<"metrics">) };
    if (table === "alerts") return { id, json: alertEntry(project, name, row as RowOf<"alerts">) };
    return { id, json: systemEntry(project, name, row as RowOf<"system_metrics">) };
  }

  #configEntry(carrier: MetricsRow, config: string): Entry {
    const name = this.#runOf(carrier.runId, carrier.run).name;
    return { id: -carrier.id, json: metricsEntry(this.#parts.project, name, carrier, config) };
  }

  async #send(table: CountedTable, entries: readonly Entry[], timestamps: readonly string[]): Promise<Refused[]> {
    return await sendOn(this.#ways, table, entries, timestamps, this.#parts.spend);
  }

  #filesOf(rows: readonly MetricsRow[]): MediaFile[] {
    return rows.flatMap(({ metrics, runId, run, step }) =>
      mediaIn(metrics).map((path) => ({ path, runId, run, step })),
    );
  }

  #advance(
    table: Table,
    position: Position,
    refused: readonly RefusedRow[],
    files: readonly MediaFile[],
    runs: ReadonlyMap<string, RunState> = new Map(),
  ): void {
    const { watermarks, destination, project } = this.#parts;
    watermarks.save({ destination, project, position: [table, position], runs, refused, files });
    this.#progress.positions[table] = position;
  }

  /** Before anything is sent: rows may be there from before, and a rename there has taken their names. */
  async #learnWhatIsThere(): Promise<void> {
    const { server, project, destination, watermarks } = this.#parts;
    const { isAwake, inbox } = this.#ways;
    if (!isAwake) {
      if (!(await inbox?.hasDatabase(project))) return;
      throw new ServerFailure("later", "its Space does not answer, and what it has of the project is not known");
    }
    const remote = await remoteRuns(server, project, "metrics");
    if (typeof remote === "string") return;
    for (const [runId, { name, rows, named }] of remote) {
      const { isDeleted = false } = this.#progress.runs.get(runId) ?? {};
      const skip = named < rows ? rows : 0;
      this.#progress.runs.set(runId, { name, localName: "", skip, isConfirmed: true, isDeleted });
    }
    watermarks.save({ destination, project, runs: this.#progress.runs });
    // its runs are known by this database: were it made anew before the first comparison, they would seem deleted
    await this.#isAnother(remote);
  }

  /** A rename here writes a run's rows anew, without their names: as many as the server has were sent before. */
  async #learnOfRewritten(rows: readonly MetricsRow[]): Promise<void> {
    const isNew = ({ isUnnamed, runId, run }: MetricsRow) =>
      isUnnamed && this.#progress.runs.get(runId)?.localName !== run;
    if (!rows.some(isNew)) return;
    const { server, project, destination, watermarks } = this.#parts;
    const remote = await remoteRuns(server, project, "metrics");
    for (const row of rows.filter(isNew)) {
      const found = typeof remote === "string" ? undefined : remote.get(row.runId);
      const run = this.#runOf(row.runId, row.run);
      Object.assign(run, { localName: row.run, skip: found?.rows ?? 0, name: found?.name ?? run.name });
    }
    watermarks.save({ destination, project, runs: this.#progress.runs });
  }

  /** Whether the server's database is another than at the last comparison: made anew, or put back to an older state. */
  async #isAnother(remote: RemoteRuns): Promise<boolean> {
    const { server, project, destination, watermarks } = this.#parts;
    if (remote.size === 0) return false;
    const known = watermarks.anchorOf(destination, project);
    const anchor = await remoteAnchor(server, project, known.id);
    if (!anchor) return false;
    const { last, keyAtKnown } = anchor;
    const isOlder = last.id < known.id;
    // a row that was deleted there, or has lost its name by a rename, says nothing
    const isOther = known.key !== "" && keyAtKnown !== "" && keyAtKnown !== known.key;
    if (isOlder || isOther) return true;
    watermarks.saveAnchor(destination, project, last);
    return false;
  }

  /** Takes in how a run looks there. How many rows of it are missing and worth sending again. */
  #compare(table: CountedTable, runId: string, rows: number, remote: RemoteRuns): number {
    const run = this.#progress.runs.get(runId);
    if (!run || run.isDeleted) return 0;
    const found = remote.get(runId);
    const { watermarks, destination, project } = this.#parts;
    if (table === "metrics") {
      if (!found && run.isConfirmed) run.isDeleted = true;
      if (found) Object.assign(run, { name: found.name, isConfirmed: true });
      watermarks.save({ destination, project, runs: [[runId, run]] });
      if (run.isDeleted) return 0;
    }
    // rows without names are there since a rename: they cannot be told apart, so none is sent again
    if (found && found.named < found.rows) return 0;
    const refused = watermarks.refusedRows(destination, project).filter((row) => row.table === table).length;
    const missing = rows - (found?.rows ?? 0) - refused;
    const key = `${table}:${runId}`;
    if (missing <= 0) {
      this.#repaired.delete(key);
      return 0;
    }
    return this.#repaired.get(key) === missing ? 0 : missing;
  }

  async #repair(table: CountedTable, runId: string, upTo: number): Promise<void> {
    const { reader, path, access } = this.#parts;
    let id = 0;
    while (id < upTo) {
      const after = { ...this.#progress.positions, [table]: { id, key: "" } };
      const delta = await reader.delta({ path, access, after, maxRows, maxBytes, only: { table, runId, upTo } });
      const rows = delta[table] as RowOf<typeof table>[];
      const ids = [...rows, ...delta.unusable].map((row) => row.id);
      if (ids.length === 0) return;
      await this.#send(
        table,
        rows.map((row) => this.#entry(table, row)),
        rows.map(({ timestamp }) => timestamp),
      );
      id = Math.max(...ids);
    }
  }

  #reload(): void {
    const { positions, runs } = this.#parts.watermarks.progressOf(this.#parts.destination, this.#parts.project);
    this.#progress.positions = positions;
    this.#progress.runs = runs;
    this.#configs.clear();
  }

  #words(refused: readonly Refused[], table: Table): string[] {
    return refused.map(
      ({ id, reason }) => `row ${Math.abs(id)} of ${table} was refused, and is kept to be tried again: ${reason}`,
    );
  }
}
