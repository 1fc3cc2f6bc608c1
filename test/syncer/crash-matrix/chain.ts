/** Writers, publisher, syncer, a front that spoils exchanges, and a server: each a process, each of which may die. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { SyncSummary } from "../../../src/syncer/sync-summary.ts";
import { startOf } from "../../helpers/processes.ts";
import { newest } from "../runs.ts";
import { SyncerProcess } from "../syncer-process.ts";
import { type RunningTrackio, startTrackio, writeToken } from "../trackio.ts";
import { exchangeFaults, Front } from "./front.ts";
import { assertNothingAhead, assertWhole, type Places } from "./ledger.ts";
import { loseProject, loseRows } from "./losses.ts";
import { PublisherProcess } from "./publisher-process.ts";
import type { Seeded } from "./seeded.ts";
import { Writer } from "./writer.ts";

export const faults = [
  ...exchangeFaults,
  "connections refused",
  "syncer killed at any time",
  "publisher killed",
  "publisher killed in a copy",
  "writer killed",
  "server lost rows",
  "server lost a project",
  "watermarks lost",
  "watermarks damaged",
] as const;
export type Fault = (typeof faults)[number];

export const projects = ["alpha", "beta"] as const;
/** exchanges that wait to be spoilt; with many, one exchange after the other would be */
const maxArmed = 2;
const lastDrainMs = 600_000;

export class Chain implements AsyncDisposable {
  /** how often each fault has happened */
  readonly counts = new Map<Fault, number>(faults.map((fault) => [fault, 0]));
  /** of all processes that were started, except for Python, the number and when it was started */
  readonly pids = new Map<number, string | undefined>();
  readonly places: Places & { to: string };
  readonly #seeded: Seeded;
  readonly #writers: Writer[];
  readonly #front: Front;
  readonly #published = new Map<string, number>();
  /** somebody looks at a project all the time: what is written stays in the log beside the database */
  #onlooker: DatabaseSync | undefined;
  #publisher: PublisherProcess | undefined;
  #syncer: SyncerProcess | undefined;
  #server: RunningTrackio | undefined;
  #serverStart: Promise<void> = Promise.resolve();
  #serverEnd: Promise<void> | undefined;
  #killInCopy: Promise<void> | undefined;
  /** no server is started any more */
  #isEnding = false;
  /** false while the server lacks rows that it has lost */
  #isServerWhole = true;

  private constructor(folder: string, seeded: Seeded) {
    this.#seeded = seeded;
    const place = (name: string) => join(folder, name);
    this.places = { from: place("from"), to: place("to"), remote: place("remote"), statePath: place("state/sync.db") };
    for (const path of [this.places.from, this.places.to, this.places.remote, place("state"), place("tokens")]) {
      mkdirSync(path);
    }
    writeFileSync(place("tokens/TRACKIO_WRITE_TOKEN"), writeToken);
    this.#writers = [
      new Writer(this.places.from, "alpha", "one"),
      new Writer(this.places.from, "alpha", "two"),
      new Writer(this.places.from, "beta", "one"),
    ];
    this.#front = new Front({
      serverAddress: () => this.#server?.address,
      killSyncer: () => this.#killSyncer(),
      killServer: () => this.#killServer(),
      onFired: ({ kind }) => this.#count(kind),
    });
  }

  static async start(folder: string, seeded: Seeded): Promise<Chain> {
    const chain = new Chain(folder, seeded);
    await chain.#front.open();
    await chain.#startServer();
    return chain;
  }

  /** Logs, lets the faults happen, and looks at what is left of the chain. */
  async round(wanted: readonly Fault[]): Promise<void> {
    do {
      this.#revive();
      // otherwise most rounds would pass while it is down, and show little
      if (this.#seeded.chance(0.7)) await this.#serverStart;
      await this.#log();
      this.#lookOn();
      for (const fault of wanted) await this.#inject(fault);
      wanted = [];
      await this.#drain();
      assertWhole(this.places.to, this.#published);
      if (this.#isServerWhole) assertNothingAhead(this.places, projects);
    } while (this.#front.armed > maxArmed);
  }

  /** Lets what waits happen, then everything end well: the writers, the publisher, and the syncer when it has sent all. */
  async finish(): Promise<void> {
    while (this.#front.armed > 0 || this.#killInCopy) await this.round([]);
    await this.#serverStart;
    for (const writer of this.#writers) await writer.end();
    this.#revive();
    assert.equal(await this.#publisher?.stop(), 0, this.#publisher?.said);
    const syncer = this.#syncer;
    const summary = await syncer?.drain(lastDrainMs);
    assert.deepEqual([summary?.waiting, summary?.errors], [0, []], JSON.stringify(summary));
    assert.equal(await syncer?.stop(), 0);
    assertWhole(this.places.to, this.#published);
    await this.#front.close();
    await this.#endServer();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isEnding = true;
    this.#onlooker?.close();
    await Promise.all([this.#killSyncer(), this.#publisher?.kill(), ...this.#writers.map((writer) => writer.kill())]);
    // a start may follow the end that is under way
    await this.#serverEnd;
    await this.#serverStart.catch(() => {});
    await this.#endServer();
    await this.#front[Symbol.asyncDispose]();
  }

  /** Starts again what has died. */
  #revive(): void {
    if (!this.#publisher?.isAlive && !this.#killInCopy) {
      this.#publisher = new PublisherProcess(this.places.from, this.places.to);
      this.#note([this.#publisher.pid]);
    }
    if (this.#syncer?.isAlive) return;
    const { to, statePath } = this.places;
    this.#syncer = new SyncerProcess({
      folder: to,
      statePath,
      server: this.#front.address,
      credentialsFolder: join(to, "../tokens"),
      controlPath: join(to, "../control.sock"),
    });
    this.#note([this.#syncer.pid]);
  }

  async #log(): Promise<void> {
    const writers = this.#seeded.shuffled(this.#writers).slice(0, 1 + this.#seeded.below(2));
    await Promise.all(writers.map((writer) => writer.log(this.#seeded)));
  }

  #lookOn(): void {
    const path = join(this.places.from, "beta.db");
    if (this.#onlooker || !existsSync(path)) return;
    this.#onlooker = new DatabaseSync(path, { readOnly: true, timeout: 600_000 });
    // it is opened in earnest by the first look
    this.#onlooker.prepare("SELECT COUNT(*) FROM sqlite_schema").get();
  }

  async #inject(fault: Fault): Promise<void> {
    const isOfExchange = (kind: Fault): kind is (typeof exchangeFaults)[number] =>
      exchangeFaults.some((each) => each === kind);
    if (isOfExchange(fault)) {
      const armed = { kind: fault, isForRows: this.#seeded.chance(0.6), goesOn: this.#seeded.chance(0.5) };
      // the syncer looks for the rows that are to blame: some in a row make it find some
      const times = fault === "500" ? 1 + this.#seeded.below(4) : 1;
      for (let time = 0; time < times; time += 1) this.#front.arm(armed);
      return;
    }
    if (fault === "publisher killed in a copy") {
      this.#killInCopy ??= this.#killPublisherInCopy();
      return;
    }
    this.#count(fault);
    switch (fault) {
      case "connections refused":
        await this.#front.close();
        await this.#drain();
        return await this.#front.open();
      case "syncer killed at any time":
        return await this.#killSyncer();
      case "publisher killed":
        return await this.#publisher?.kill();
      case "writer killed":
        return await this.#killWriter();
      case "server lost rows":
        return await this.#loseOnServer((project) => loseRows(this.places.remote, project, this.#seeded));
      case "server lost a project":
        return await this.#loseOnServer((project) => loseProject(this.places.remote, project));
      case "watermarks lost":
        return await this.#spoilWatermarks((path) => rmSync(path));
      case "watermarks damaged":
        return await this.#spoilWatermarks((path) => writeFileSync(path, "x".repeat(10_000)));
    }
  }

  /** One look at everything, as far as it comes. A drain that clears all makes good what the server has lost. */
  async #drain(): Promise<void> {
    const wasUp = this.#server !== undefined;
    const summary = await this.#syncer?.drain(0).catch((): SyncSummary | undefined => undefined);
    this.#noteSyncer();
    if (wasUp && summary?.waiting === 0 && summary.errors.length === 0) this.#isServerWhole = true;
  }

  async #killSyncer(): Promise<void> {
    this.#noteSyncer();
    await this.#syncer?.kill();
  }

  async #killPublisherInCopy(): Promise<void> {
    const wasCopying = await this.#publisher?.killInCopy();
    this.#count(wasCopying ? "publisher killed in a copy" : "publisher killed");
    this.#killInCopy = undefined;
  }

  /** While it logs, or after. */
  async #killWriter(): Promise<void> {
    const writer = this.#seeded.pick(this.#writers);
    const logged = writer.log(this.#seeded).catch(() => {});
    if (this.#seeded.chance(0.5)) await logged;
    await writer.kill();
    await logged;
  }

  async #startServer(): Promise<void> {
    this.#serverStart = this.#newServer().then((server) => {
      this.#server = server;
    });
    await this.#serverStart;
  }

  async #newServer(): Promise<RunningTrackio | undefined> {
    if (this.#isEnding) return undefined;
    const start = () => startTrackio(newest, "own", this.places.remote);
    // another process may have taken the port that was free
    return await start().catch(start);
  }

  /** It comes back by itself, at another port. */
  async #killServer(): Promise<void> {
    if (!this.#server) return;
    await this.#endServer();
    this.#startServer().catch(() => {});
  }

  async #endServer(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server) this.#serverEnd = Promise.resolve(server[Symbol.asyncDispose]());
    await this.#serverEnd;
  }

  async #loseOnServer(lose: (project: string) => void): Promise<void> {
    await this.#serverStart;
    await this.#endServer();
    this.#isServerWhole = false;
    lose(this.#seeded.pick(projects));
    // what the others do meanwhile is new to the server when it is back
    await this.#startServer();
  }

  async #spoilWatermarks(spoil: (path: string) => void): Promise<void> {
    await this.#killSyncer();
    const { statePath } = this.places;
    for (const ending of ["-wal", "-shm"]) rmSync(`${statePath}${ending}`, { force: true });
    spoil(statePath);
    this.#revive();
    await this.#drain();
  }

  #noteSyncer(): void {
    try {
      this.#note(this.#syncer?.pids() ?? []);
    } catch {
      // it ended while its children were being read
    }
  }

  #note(pids: readonly (number | undefined)[]): void {
    for (const pid of pids) if (pid !== undefined) this.pids.set(pid, startOf(pid));
  }

  #count(fault: Fault): void {
    this.counts.set(fault, (this.counts.get(fault) ?? 0) + 1);
  }
}
