/**
 * What each account has spent, which grants are in force, and what running requests may yet cost, in SQLite: a proxy
 * that starts again knows all of it. A request is sent only when its reservation is on file. Writes of the same moment
 * share a transaction.
 */
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { noUsage, type Reservation, type Usage } from "./cost.ts";
import type { Grant } from "./grant.ts";

/** What an account has used, ever. */
export interface Spending {
  requests: number;
  /** not passed on */
  refused: number;
  /** from the cache or not */
  inputTokens: number;
  outputTokens: number;
  cacheReadTokens: number;
  cacheWriteTokens: number;
  nanoUsd: number;
}

/** What running requests of an account may use at most. */
export interface Reserved {
  inputTokens: number;
  outputTokens: number;
  nanoUsd: number;
}

const nothingReserved: Reserved = { inputTokens: 0, outputTokens: 0, nanoUsd: 0 };

const columns = [
  "requests",
  "refused",
  "inputTokens",
  "outputTokens",
  "cacheReadTokens",
  "cacheWriteTokens",
  "nanoUsd",
] as const;

/** how often what running streams have used is put on file, in milliseconds */
const progressMs = 1000;

export interface Hold {
  id: number;
  account: string;
  reservation: Reservation;
  /** what is known of its use so far, and its cost in nano-dollars */
  progress: () => { usage: Usage; nanoUsd: number };
}

export class Ledger {
  readonly #db: DatabaseSync;
  readonly #statements: Record<"grant" | "revoke" | "spend" | "hold" | "progress" | "release", StatementSync>;
  readonly #spending = new Map<string, Spending>();
  readonly #holds = new Map<number, Hold>();
  readonly #reserved = new Map<string, Reserved>();
  #writes: (() => void)[] = [];
  #saved: PromiseWithResolvers<void> | undefined;
  #nextId = 1;
  readonly #timer: NodeJS.Timeout;

  /** Opens or makes the file. What a dead proxy's running requests had used by then is spent. Throws when it cannot. */
  constructor(path: string) {
    this.#db = new DatabaseSync(path);
    // no flush at each transaction: it outlives the death of the process, and a loss of power costs the last second
    this.#db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
      CREATE TABLE IF NOT EXISTS grants (sandboxId TEXT PRIMARY KEY, grant TEXT NOT NULL) STRICT;
      CREATE TABLE IF NOT EXISTS spending (account TEXT PRIMARY KEY, ${columns.map((name) => `${name} INTEGER NOT NULL`).join(", ")}) STRICT;
      CREATE TABLE IF NOT EXISTS holds (id INTEGER PRIMARY KEY, account TEXT NOT NULL, inputTokens INTEGER NOT NULL,
        outputTokens INTEGER NOT NULL, nanoUsd INTEGER NOT NULL) STRICT;`);
    const sums = columns.map((name) => `${name} = ${name} + excluded.${name}`).join(", ");
    this.#statements = {
      grant: this.#db.prepare("INSERT OR REPLACE INTO grants VALUES (?, ?)"),
      revoke: this.#db.prepare("DELETE FROM grants WHERE sandboxId = ?"),
      spend: this.#db.prepare(
        `INSERT INTO spending VALUES (?${", ?".repeat(columns.length)}) ON CONFLICT DO UPDATE SET ${sums}`,
      ),
      hold: this.#db.prepare("INSERT INTO holds VALUES (?, ?, ?, ?, ?)"),
      progress: this.#db.prepare("UPDATE holds SET inputTokens = ?, outputTokens = ?, nanoUsd = ? WHERE id = ?"),
      release: this.#db.prepare("DELETE FROM holds WHERE id = ?"),
    };
    this.#settleLost();
    for (const row of this.#db.prepare("SELECT * FROM spending").all()) {
      const { account, ...spending } = row as unknown as Spending & { account: string };
      this.#spending.set(account, spending);
    }
    this.#timer = setInterval(() => this.#saveProgress(), progressMs);
    this.#timer.unref();
  }

  /** All grants that were neither revoked nor replaced, also those that have expired. */
  grants(): Grant[] {
    return this.#db
      .prepare("SELECT grant FROM grants")
      .all()
      .map((row) => JSON.parse(String(row["grant"])) as Grant);
  }

  saveGrant(grant: Grant): void {
    this.#write(() => this.#statements.grant.run(grant.sandboxId, JSON.stringify(grant)));
  }

  removeGrant(sandboxId: string): void {
    this.#write(() => this.#statements.revoke.run(sandboxId));
  }

  spendingOf(account: string): Readonly<Spending> {
    return this.#spending.get(account) ?? nothingSpent();
  }

  reservedOf(account: string): Readonly<Reserved> {
    return this.#reserved.get(account) ?? nothingReserved;
  }

  /** Sets aside what the request may cost. It may be sent when `saved` has resolved. */
  hold(account: string, reservation: Reservation, progress: Hold["progress"]): Hold {
    const hold = { id: this.#nextId++, account, reservation, progress };
    this.#holds.set(hold.id, hold);
    this.#reserve(account, reservation, 1);
    const { inputTokens, inputNanoUsd } = reservation;
    this.#write(() => this.#statements.hold.run(hold.id, account, inputTokens, 0, inputNanoUsd));
    return hold;
  }

  /** Gives back what was set aside, and counts what was used instead. */
  settle(hold: Hold, usage: Usage, nanoUsd: number): void {
    this.#holds.delete(hold.id);
    this.#reserve(hold.account, hold.reservation, -1);
    this.#write(() => this.#statements.release.run(hold.id));
    this.count(hold.account, { requests: 1, ...spent(usage), nanoUsd });
  }

  /** Adds to what an account has used. */
  count(account: string, added: Partial<Spending>): void {
    const spending = this.#spending.get(account) ?? nothingSpent();
    this.#spending.set(account, spending);
    for (const name of columns) spending[name] += added[name] ?? 0;
    this.#write(() => this.#statements.spend.run(account, ...columns.map((name) => added[name] ?? 0)));
  }

  /** Resolves when all that was written until now is on file; rejects when it could not be. */
  get saved(): Promise<void> {
    return this.#saved?.promise ?? Promise.resolve();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#flush();
    this.#db.close();
  }

  #reserve(account: string, { inputTokens, outputTokens, nanoUsd }: Reserved, sign: 1 | -1): void {
    const before = this.reservedOf(account);
    this.#reserved.set(account, {
      inputTokens: before.inputTokens + sign * inputTokens,
      outputTokens: before.outputTokens + sign * outputTokens,
      nanoUsd: before.nanoUsd + sign * nanoUsd,
    });
  }

  #write(write: () => void): void {
    this.#writes.push(write);
    if (this.#saved) return;
    this.#saved = Promise.withResolvers();
    // nobody may wait for it
    this.#saved.promise.catch(() => {});
    setImmediate(() => this.#flush());
  }

  #flush(): void {
    const saved = this.#saved;
    this.#saved = undefined;
    if (this.#writes.length === 0) return;
    try {
      this.#db.exec("BEGIN");
      for (const write of this.#writes) write();
      this.#db.exec("COMMIT");
      this.#writes = [];
      saved?.resolve();
    } catch (error) {
      // a full disk: the writes are kept for the next time
      if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
      saved?.reject(error);
    }
  }

  #saveProgress(): void {
    for (const { id, reservation, progress } of this.#holds.values()) {
      const { usage, nanoUsd } = progress();
      const { inputTokens, outputTokens } = spent(usage);
      const atLeast = [Math.max(inputTokens, reservation.inputTokens), outputTokens, nanoUsd] as const;
      this.#write(() => this.#statements.progress.run(...atLeast, id));
    }
  }

  #settleLost(): void {
    const lost = this.#db.prepare("SELECT * FROM holds").all() as unknown as (Reserved & { account: string })[];
    this.#db.exec("BEGIN");
    for (const { account, inputTokens, outputTokens, nanoUsd } of lost) {
      const added: Partial<Spending> = { requests: 1, inputTokens, outputTokens, nanoUsd };
      this.#statements.spend.run(account, ...columns.map((name) => added[name] ?? 0));
    }
    this.#db.exec("DELETE FROM holds; COMMIT");
  }
}

function spent(usage: Usage): Pick<Spending, "inputTokens" | "outputTokens" | "cacheReadTokens" | "cacheWriteTokens"> {
  const { outputTokens, cacheReadTokens, cacheWriteTokens } = usage;
  return {
    inputTokens: usage.inputTokens + cacheReadTokens + cacheWriteTokens,
    outputTokens,
    cacheReadTokens,
    cacheWriteTokens,
  };
}

function nothingSpent(): Spending {
  return { requests: 0, refused: 0, nanoUsd: 0, ...spent(noUsage) };
}
