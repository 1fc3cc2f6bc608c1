/**
 * What each account has spent, what its running requests have used so far, and which grants are in force, in SQLite: a
 * proxy that starts again knows all of it. A request is sent only when its reservation is on file. Changes of the same
 * moment share a transaction, and one row holds all of an account.
 */
import { DatabaseSync, type StatementSync } from "node:sqlite";
import type { Reservation, Usage } from "./cost.ts";
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

/** Amounts of requests that run. */
interface Amounts {
  inputTokens: number;
  outputTokens: number;
  nanoUsd: number;
}

/** A request that runs: what was set aside for it. */
export interface Hold {
  account: string;
  reservation: Reservation;
  /** what is known of its use so far, and its cost in nano-dollars */
  progress: () => { usage: Usage; nanoUsd: number };
  /** what of that is on file */
  filed: Amounts;
}

interface Account {
  spending: Spending;
  /** the most that running requests may yet use */
  reserved: Amounts;
  /** how many they are, and what they have used at least */
  running: Amounts & { requests: number };
}

const columns = [
  ...["requests", "refused", "inputTokens", "outputTokens", "cacheReadTokens", "cacheWriteTokens", "nanoUsd"],
  ...["runningRequests", "runningInputTokens", "runningOutputTokens", "runningNanoUsd"],
] as const;

/** how often what running streams have used is put on file, in milliseconds */
const progressMs = 1000;

export class Ledger {
  readonly #db: DatabaseSync;
  readonly #statements: Record<"grant" | "revoke" | "account", StatementSync>;
  readonly #accounts = new Map<string, Account>();
  readonly #holds = new Set<Hold>();
  /** not on file yet */
  readonly #changed = new Set<string>();
  #writes: (() => void)[] = [];
  #saved: PromiseWithResolvers<void> | undefined;
  readonly #timer: NodeJS.Timeout;

  /** Opens or makes the file; `isShared`: others may read it meanwhile. What a dead proxy's running requests had used by then is spent. Throws when it cannot. */
  constructor(path: string, isShared = true) {
    this.#db = new DatabaseSync(path);
    // no flush at each transaction: it outlives the death of the process, and a loss of power costs the last second
    // a distant volume may have no memory that processes share, and is committed file by file: there, all is in one file
    this.#db.exec(
      isShared ? "PRAGMA journal_mode = WAL" : "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = DELETE",
    );
    this.#db.exec(`PRAGMA synchronous = NORMAL;
      CREATE TABLE IF NOT EXISTS grants (sandboxId TEXT PRIMARY KEY, grant TEXT NOT NULL) STRICT;
      CREATE TABLE IF NOT EXISTS accounts (account TEXT PRIMARY KEY,
        ${columns.map((name) => `${name} INTEGER NOT NULL`).join(", ")}) STRICT;
      UPDATE accounts SET requests = requests + runningRequests, inputTokens = inputTokens + runningInputTokens,
        outputTokens = outputTokens + runningOutputTokens, nanoUsd = nanoUsd + runningNanoUsd,
        runningRequests = 0, runningInputTokens = 0, runningOutputTokens = 0, runningNanoUsd = 0;`);
    this.#statements = {
      grant: this.#db.prepare("INSERT OR REPLACE INTO grants VALUES (?, ?)"),
      revoke: this.#db.prepare("DELETE FROM grants WHERE sandboxId = ?"),
      account: this.#db.prepare(`INSERT OR REPLACE INTO accounts VALUES (?${", ?".repeat(columns.length)})`),
    };
    for (const row of this.#db.prepare("SELECT * FROM accounts").all()) {
      const account = emptyAccount();
      for (const name of Object.keys(account.spending) as (keyof Spending)[]) {
        account.spending[name] = Number(row[name]);
      }
      this.#accounts.set(String(row["account"]), account);
    }
    this.#timer = setInterval(() => this.#fileProgress(), progressMs);
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
    this.#writes.push(() => this.#statements.grant.run(grant.sandboxId, JSON.stringify(grant)));
    this.#schedule();
  }

  removeGrant(sandboxId: string): void {
    this.#writes.push(() => this.#statements.revoke.run(sandboxId));
    this.#schedule();
  }

  spendingOf(account: string): Readonly<Spending> {
    return this.#accounts.get(account)?.spending ?? emptyAccount().spending;
  }

  /** The most that running requests of the account may yet use. */
  reservedOf(account: string): Readonly<Amounts> {
    return this.#accounts.get(account)?.reserved ?? noAmounts;
  }

  /** Sets aside what the request may cost. It may be sent when `saved` has resolved. */
  hold(account: string, reservation: Reservation, progress: Hold["progress"]): Hold {
    const { inputTokens, inputNanoUsd } = reservation;
    const hold = { account, reservation, progress, filed: { inputTokens, outputTokens: 0, nanoUsd: inputNanoUsd } };
    this.#holds.add(hold);
    const { reserved, running } = this.#change(account);
    add(reserved, reservation, 1);
    add(running, hold.filed, 1);
    running.requests += 1;
    return hold;
  }

  /** Gives back what was set aside, and counts what was used instead. */
  settle(hold: Hold, usage: Usage, nanoUsd: number): void {
    this.#holds.delete(hold);
    const { reserved, running } = this.#change(hold.account);
    add(reserved, hold.reservation, -1);
    add(running, hold.filed, -1);
    running.requests -= 1;
    const { outputTokens, cacheReadTokens, cacheWriteTokens } = usage;
    const tokens = { inputTokens: inputOf(usage), outputTokens, cacheReadTokens, cacheWriteTokens };
    this.count(hold.account, { requests: 1, ...tokens, nanoUsd });
  }

  /** Adds to what an account has used. */
  count(account: string, added: Partial<Spending>): void {
    const { spending } = this.#change(account);
    for (const name of Object.keys(added) as (keyof Spending)[]) spending[name] += added[name] ?? 0;
  }

  /** Resolves when all that was changed until now is on file; rejects when it could not be. */
  get saved(): Promise<void> {
    return this.#saved?.promise ?? Promise.resolve();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#flush();
    this.#db.close();
  }

  #change(name: string): Account {
    const account = this.#accounts.get(name) ?? emptyAccount();
    this.#accounts.set(name, account);
    this.#changed.add(name);
    this.#schedule();
    return account;
  }

  #schedule(): void {
    if (this.#saved) return;
    this.#saved = Promise.withResolvers();
    // nobody may wait for it
    this.#saved.promise.catch(() => {});
    // what comes in the same round of the event loop shares one transaction
    setImmediate(() => this.#flush());
  }

  #flush(): void {
    const saved = this.#saved;
    this.#saved = undefined;
    if (!saved) return;
    try {
      this.#db.exec("BEGIN");
      for (const write of this.#writes) write();
      for (const name of this.#changed) this.#fileAccount(name);
      this.#db.exec("COMMIT");
      this.#writes = [];
      this.#changed.clear();
      saved.resolve();
    } catch (error) {
      // a full disk: what was changed is kept for the next time
      if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
      saved.reject(error);
    }
  }

  #fileAccount(name: string): void {
    const { spending, running } = this.#accounts.get(name) ?? emptyAccount();
    const { requests, refused, inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens, nanoUsd } = spending;
    this.#statements.account.run(
      ...[name, requests, refused, inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens, nanoUsd],
      ...[running.requests, running.inputTokens, running.outputTokens, running.nanoUsd],
    );
  }

  #fileProgress(): void {
    for (const hold of this.#holds) {
      const { usage, nanoUsd } = hold.progress();
      const now = { inputTokens: inputOf(usage), outputTokens: usage.outputTokens, nanoUsd };
      const { running } = this.#change(hold.account);
      add(running, hold.filed, -1);
      add(running, now, 1);
      hold.filed = now;
    }
  }
}

const noAmounts: Readonly<Amounts> = { inputTokens: 0, outputTokens: 0, nanoUsd: 0 };

function emptyAccount(): Account {
  return {
    spending: { ...{ requests: 0, refused: 0, cacheReadTokens: 0, cacheWriteTokens: 0 }, ...noAmounts },
    reserved: { ...noAmounts },
    running: { requests: 0, ...noAmounts },
  };
}

function add(to: Amounts, { inputTokens, outputTokens, nanoUsd }: Readonly<Amounts>, sign: 1 | -1): void {
  to.inputTokens += sign * inputTokens;
  to.outputTokens += sign * outputTokens;
  to.nanoUsd += sign * nanoUsd;
}

/** All input, from the cache or not. */
function inputOf({ inputTokens, cacheReadTokens, cacheWriteTokens }: Usage): number {
  return inputTokens + cacheReadTokens + cacheWriteTokens;
}
