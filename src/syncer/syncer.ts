/**
 * The syncer: looks at a trackio folder again and again, and sends what is new to where it belongs. Each project fails
 * for itself; each destination gets one request at a time, and is left alone for a while after a failure.
 */
import { messageOf } from "../errors.ts";
import { sanitizeText } from "../sanitize.ts";
import { Backoff } from "./backoff.ts";
import type { Access } from "./database.ts";
import { type Destination, type DestinationRules, Destinations } from "./destinations.ts";
import { FragmentSync } from "./fragment-sync.ts";
import { hourlyCap } from "./hourly-cap.ts";
import { Inbox } from "./inbox.ts";
import { sendMedia } from "./media.ts";
import { ProjectSync } from "./project-sync.ts";
import { Reader } from "./reader.ts";
import type { ProjectStatus, SyncStatus } from "./sync-status.ts";
import { type DatabaseFile, type FolderListing, listFolder } from "./trackio-folder.ts";
import { ServerFailure } from "./trackio-server.ts";
import { type MediaFile, Watermarks } from "./watermarks.ts";
import { type Ways, waysTo } from "./ways.ts";

export interface SyncerOptions extends DestinationRules {
  /** what is watched; nothing is ever written there, unless `access` is `live` */
  folder: string;
  access: Access;
  /** file of the watermarks, out of reach of whoever writes to the folder */
  statePath: string;
  /** true where that file lies on a distant volume, which commits files and knows nothing of databases */
  stateOnVolume?: boolean;
  /** most bytes that leave in an hour */
  maxBytesPerHour: number;
  withMedia: boolean;
}

/** a look that finds more to send than fits into this time goes on in the next one, in milliseconds */
const longestPollMs = 10_000;
/** counts are compared so often, and a file that looks the same is read, in milliseconds */
const verifyMs = 300_000;
/** refused rows are tried again so often, in milliseconds */
const retryMs = 3_600_000;
const maxProblems = 20;

interface Project {
  sync: ProjectSync;
  destination: Destination;
  status: ProjectStatus;
  /** of the file when all of it had been sent */
  fingerprint: string;
  verifiedAt: number;
  retriedAt: number;
  /** for what of it the destination does not take: the others go on */
  backoff: Backoff;
  /** a Space named for it that has been seen once; it counts when it is seen twice */
  wanted: string | undefined;
  /** true when the user knows that its rows wait in the Space's bucket */
  isToldAsleep: boolean;
}

export class Syncer implements AsyncDisposable {
  readonly #options: SyncerOptions;
  readonly #watermarks: Watermarks;
  readonly #reader = new Reader();
  readonly #destinations: Destinations;
  readonly #projects = new Map<string, Project>();
  readonly #statuses = new Map<string, ProjectStatus>();
  readonly #backoffs = new Map<string, Backoff>();
  readonly #fragments: FragmentSync;
  readonly #spend: (bytes: number) => void;
  #problems: string[] = [];
  #isForced = false;
  #running: Promise<SyncStatus> | undefined;

  /** Throws when the watermarks cannot be written. */
  constructor(options: SyncerOptions) {
    this.#options = options;
    this.#watermarks = new Watermarks(options.statePath, options.stateOnVolume);
    this.#spend = hourlyCap(this.#watermarks, options.maxBytesPerHour);
    this.#destinations = new Destinations(options, (destination, spaceId, hub) => {
      return new Inbox({ hub, spaceId, destination, watermarks: this.#watermarks, spend: this.#spend });
    });
    this.#fragments = new FragmentSync(this.#reader, this.#watermarks, this.#spend);
    if (this.#watermarks.damagedPath !== undefined) {
      this.#problems.push(`the watermarks could not be read and were set aside as ${this.#watermarks.damagedPath}`);
    }
  }

  /**
   * One look at everything, until nothing new is left that can be sent now. `isForced`: at once, also where a failure
   * would be waited out, and with a comparison of both sides.
   */
  poll(isForced = false): Promise<SyncStatus> {
    this.#isForced ||= isForced;
    this.#running ??= this.#poll().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  /** Polls until nothing is waiting or `deadline`, in milliseconds since 1970, has come. */
  async drain(deadline: number): Promise<SyncStatus> {
    await this.#running?.catch(() => {});
    for (;;) {
      const status = await this.poll(true);
      const isDone = status.projects.every(({ waiting, error }) => waiting === 0 && error === null);
      if (isDone || Date.now() >= deadline) return status;
      await new Promise((resolve) => setTimeout(resolve, Math.min(500, Math.max(0, deadline - Date.now()))));
    }
  }

  status(): SyncStatus {
    return {
      projects: [...this.#statuses.values()],
      problems: this.#problems,
      bytesThisHour: this.#watermarks.sentInHour(Date.now()),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#running?.catch(() => {});
    this.#reader[Symbol.dispose]();
    this.#watermarks[Symbol.dispose]();
  }

  async #poll(): Promise<SyncStatus> {
    const isForced = this.#isForced;
    this.#isForced = false;
    const listing = this.#list();
    if (!listing) return this.status();
    const byDestination = new Map<string, Project[]>();
    for (const file of listing.databases) {
      const project = this.#projectOf(file, listing);
      if (!project) continue;
      const isUnchanged = project.fingerprint === file.fingerprint;
      const isLeftAlone = Date.now() < (this.#backoffs.get(project.destination.name)?.until ?? 0);
      const isDue = !isLeftAlone && this.#isToVerify(project);
      if (isUnchanged && !isForced && !isDue) continue;
      if (Date.now() < project.backoff.until && !isForced) continue;
      const { name } = project.destination;
      byDestination.set(name, [...(byDestination.get(name) ?? []), project]);
    }
    const fingerprints = new Map(listing.databases.map(({ project, fingerprint }) => [project, fingerprint]));
    await Promise.all(
      [...byDestination].map(([name, projects]) => this.#serve(name, projects, fingerprints, isForced)),
    );
    await this.#sendFragments(listing, isForced);
    return this.status();
  }

  #list(): FolderListing | undefined {
    try {
      const listing = listFolder(this.#options.folder, (writer, number) => this.#fragments.isBehind(writer, number));
      const plain = (name: string) => sanitizeText(name).replace(/\s+/g, " ").slice(0, 100);
      const words = [...listing.problems].map(([name, reason]) => `${plain(name)}: ${reason}`);
      this.#problems = words.slice(0, maxProblems);
      return listing;
    } catch (error) {
      this.#problems = [`the folder cannot be read: ${messageOf(error)}`];
      return undefined;
    }
  }

  /** Where the project goes; undefined when nowhere, which its status says. */
  #projectOf(file: DatabaseFile, listing: FolderListing): Project | undefined {
    const known = this.#projects.get(file.project);
    const destination = this.#settledDestination(file.project, listing, known);
    const status = this.#statusOf(file.project);
    if (typeof destination === "string") {
      Object.assign(status, { destination: null, error: destination });
      this.#projects.delete(file.project);
      return undefined;
    }
    if (known?.destination === destination) return known;
    if (status.destination === null) status.error = null;
    status.destination = destination.name;
    const { access, withMedia } = this.#options;
    const sync = new ProjectSync({
      destination: destination.name,
      project: file.project,
      path: file.path,
      access,
      server: destination.server,
      reader: this.#reader,
      watermarks: this.#watermarks,
      spend: this.#spend,
      withMedia,
    });
    const times = { verifiedAt: 0, retriedAt: Date.now(), backoff: new Backoff() };
    const unknown = { fingerprint: "", wanted: undefined, isToldAsleep: false };
    const project: Project = { sync, destination, status, ...unknown, ...times };
    this.#projects.set(file.project, project);
    return project;
  }

  /** Another Space than before counts only when it is named twice in a row: a file may be seen half-way. */
  #settledDestination(name: string, listing: FolderListing, known: Project | undefined): Destination | string {
    const wanted = listing.spaceIds.get(name) ?? listing.spaceId;
    const destination = this.#destinations.for(wanted);
    if (!known || destination === known.destination) {
      if (known) known.wanted = undefined;
      return destination;
    }
    const key = wanted ?? "";
    if (known.wanted === key) return destination;
    known.wanted = key;
    return known.destination;
  }

  #statusOf(project: string): ProjectStatus {
    const made: ProjectStatus = {
      project,
      destination: null,
      sent: 0,
      waiting: 0,
      syncedAt: null,
      error: null,
      problems: [],
    };
    const status = this.#statuses.get(project) ?? made;
    this.#statuses.set(project, status);
    return status;
  }

  /** Batches of the destination's projects in turn, until all are done or the destination fails. */
  async #serve(
    name: string,
    projects: readonly Project[],
    fingerprints: ReadonlyMap<string, string>,
    isForced: boolean,
  ): Promise<void> {
    const backoff = this.#backoffs.get(name) ?? new Backoff();
    this.#backoffs.set(name, backoff);
    let open = [...projects];
    try {
      const [first] = open;
      const ways = first && (await waysTo(first.destination, backoff, isForced));
      if (!ways) return;
      const started = Date.now();
      // what is new elsewhere does not wait for a long backlog
      while (open.length > 0 && (isForced || Date.now() - started < longestPollMs)) {
        const unfinished: Project[] = [];
        for (const project of open) {
          const fingerprint = fingerprints.get(project.status.project) ?? "";
          if (await this.#stepOrFallAsleep(project, ways, backoff, fingerprint, isForced)) unfinished.push(project);
        }
        if (ways.isAwake) backoff.succeed();
        open = unfinished;
      }
    } catch (error) {
      if (!(error instanceof ServerFailure)) throw error;
      backoff.fail(Date.now(), error.retryAfterMs);
      for (const project of open) await this.#fail(project, error);
    }
  }

  /** As `#step`. A server that does not answer any more leaves the inbox, when there is one. */
  async #stepOrFallAsleep(
    project: Project,
    ways: Ways,
    backoff: Backoff,
    fingerprint: string,
    isForced: boolean,
  ): Promise<boolean> {
    try {
      return await this.#step(project, ways, fingerprint, isForced);
    } catch (error) {
      if (!(error instanceof ServerFailure) || error.kind !== "later" || !ways.inbox) throw error;
      backoff.fail(Date.now(), error.retryAfterMs);
      if (!ways.isAwake) {
        await this.#fail(project, error);
        return false;
      }
      ways.isAwake = false;
      ways.server.version = undefined;
      return true;
    }
  }

  async #fail({ status, sync }: Project, { message }: ServerFailure): Promise<void> {
    status.error = message;
    // a file that cannot be read is told of when its turn comes
    status.waiting = await sync.countWaiting().catch(() => status.waiting);
  }

  #isToVerify({ destination, verifiedAt }: Project): boolean {
    return Date.now() - verifiedAt >= verifyMs || destination.inbox?.isSettled === false;
  }

  /** True when there is more to send. Only what keeps the destination from all projects is thrown. */
  async #step(project: Project, ways: Ways, fingerprint: string, isForced: boolean): Promise<boolean> {
    const { sync, status } = project;
    try {
      const step = await sync.step(ways);
      this.#note(status, step);
      status.waiting = step.waiting;
      status.error = null;
      if (step.hasMore) return true;
      const now = Date.now();
      if (!ways.isAwake) {
        this.#noteAsleep(project);
        Object.assign(project, { fingerprint, retriedAt: 0 });
        status.syncedAt = now;
        return false;
      }
      project.isToldAsleep = false;
      // rows that wait in the inbox are not lost
      if ((isForced || this.#isToVerify(project)) && (await ways.inbox?.settle(ways.server)) !== false) {
        const verified = await sync.verify();
        this.#note(status, verified);
        project.verifiedAt = now;
        if (verified.hasMore) return true;
      }
      if (isForced || now - project.retriedAt >= retryMs) {
        this.#note(status, await sync.retryRefused());
        project.retriedAt = now;
      }
      if (await this.#sendMedia(project)) return true;
      project.fingerprint = fingerprint;
      project.backoff.succeed();
      status.syncedAt = now;
      return false;
    } catch (error) {
      if (error instanceof ServerFailure) {
        if (error.kind !== "content") throw error;
        project.backoff.fail(Date.now());
        status.error = error.message;
        return false;
      }
      status.error = `${project.status.project}.db cannot be read: ${sanitizeText(messageOf(error))}`;
      return false;
    }
  }

  #noteAsleep(project: Project): void {
    if (project.isToldAsleep) return;
    project.isToldAsleep = true;
    const words = "its Space does not answer; rows wait in its bucket, and appear when it runs";
    this.#note(project.status, { sent: 0, problems: [words] });
  }

  #note(status: ProjectStatus, { sent, problems }: { sent: number; problems: string[] }): void {
    status.sent += sent;
    status.problems = [...status.problems, ...problems].slice(-maxProblems);
  }

  /** Some of the files that wait; true when there are more. */
  async #sendMedia({ destination, status }: Project): Promise<boolean> {
    const { folder, withMedia } = this.#options;
    if (!withMedia) return false;
    const { name, server } = destination;
    const settled: MediaFile[] = [];
    const problems: string[] = [];
    try {
      const files = this.#watermarks.waitingFiles(name, status.project);
      for (const file of files) {
        const reason = await sendMedia(folder, status.project, file, server, this.#spend);
        settled.push(file);
        if (reason !== undefined) problems.push(`${sanitizeText(file.path).slice(0, 200)} was not sent: ${reason}`);
      }
      return files.length > 0;
    } finally {
      this.#watermarks.settleFiles(name, status.project, settled);
      this.#note(status, { sent: 0, problems });
    }
  }

  async #sendFragments(listing: FolderListing, isForced: boolean): Promise<void> {
    const destinationOf = (project: string) => this.#destinations.for(listing.spaceIds.get(project) ?? listing.spaceId);
    this.#fragments.noteRoutes((project) => {
      const destination = destinationOf(project);
      return typeof destination === "string" ? undefined : destination.name;
    });
    const problems = await this.#fragments.send(listing.fragments, (project) => {
      const status = this.#statusOf(project);
      const destination = destinationOf(project);
      if (typeof destination === "string") {
        status.error = destination;
        return undefined;
      }
      const backoff = this.#backoffs.get(destination.name) ?? new Backoff();
      this.#backoffs.set(destination.name, backoff);
      status.destination = destination.name;
      return { destination, status, backoff, isForced };
    });
    this.#problems = [...this.#problems, ...problems].slice(0, maxProblems);
  }
}
