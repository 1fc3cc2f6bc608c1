/** The syncer's end of the reader: a process of its own, ended and made anew when a file keeps it too long. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { CurvesRequest, FragmentPath, ProjectCurves } from "./curves.ts";
import type { Access, DeltaRequest } from "./database.ts";
import type { CountedTable, Delta, RunCount } from "./rows.ts";

export type ReaderRequest =
  | ({ op: "delta" } & DeltaRequest)
  | { op: "count"; path: string; access: Access; table: CountedTable; upTo: number }
  | ({ op: "curves" } & CurvesRequest)
  | { op: "fragments"; fragments: readonly FragmentPath[] };

/** a file that takes longer is hostile or too big, in milliseconds */
const timeoutMs = 30_000;
/** of JavaScript's own values, in MiB; SQLite has a limit of its own */
const heapMiB = 192;

const program = fileURLToPath(new URL(`./reader-main${import.meta.url.slice(-3)}`, import.meta.url));

type Answer = { value: unknown } | { error: string };

export class Reader implements Disposable {
  #process: ChildProcess | undefined;
  #waiter: ((answer: Answer) => void) | undefined;
  /** requests follow each other */
  #last: Promise<unknown> = Promise.resolve();

  /** Reads what is new; rejects with an Error that says what is wrong with the file. */
  delta(request: DeltaRequest): Promise<Delta> {
    return this.#ask({ op: "delta", ...request }) as Promise<Delta>;
  }

  /** Counts the rows of each run in a table, up to an id. */
  countRuns(path: string, access: Access, table: CountedTable, upTo: number): Promise<RunCount[]> {
    return this.#ask({ op: "count", path, access, table, upTo }) as Promise<RunCount[]>;
  }

  /** What a project's runs have measured; rejects with an Error that says what is wrong with its database. */
  curves(request: CurvesRequest): Promise<ProjectCurves> {
    return this.#ask({ op: "curves", ...request }) as Promise<ProjectCurves>;
  }

  /** The fragments of each project, by its name in trackio's form. */
  fragmentsByProject(fragments: readonly FragmentPath[]): Promise<Record<string, FragmentPath[]>> {
    return this.#ask({ op: "fragments", fragments }) as Promise<Record<string, FragmentPath[]>>;
  }

  [Symbol.dispose](): void {
    this.#end("the reader was closed");
  }

  #ask(request: ReaderRequest): Promise<unknown> {
    const asked = this.#last.then(() => this.#exchange(request));
    this.#last = asked.catch(() => {});
    return asked;
  }

  async #exchange(request: ReaderRequest): Promise<unknown> {
    const child = this.#process ?? this.#start();
    const { promise, resolve } = Promise.withResolvers<Answer>();
    this.#waiter = resolve;
    const timer = setTimeout(() => this.#end(`it takes longer than ${timeoutMs / 1000} s to read`), timeoutMs);
    child.stdin?.write(`${JSON.stringify(request)}\n`);
    const answer = await promise;
    clearTimeout(timer);
    if ("error" in answer) throw new Error(answer.error);
    return answer.value;
  }

  #start(): ChildProcess {
    const options = ["--disable-warning=ExperimentalWarning", `--max-old-space-size=${heapMiB}`];
    // nothing of our environment, for a token may be in it
    const child = spawn(process.execPath, [...options, program], { env: {}, stdio: ["pipe", "pipe", "ignore"] });
    child.stdin?.on("error", () => {});
    if (child.stdout) {
      createInterface({ input: child.stdout }).on("line", (line) => {
        if (this.#process === child) this.#settle(answerIn(line));
      });
    }
    child.once("exit", () => {
      if (this.#process === child) this.#end("reading it ended the reader");
    });
    child.once("error", () => this.#end("the reader cannot be started"));
    // it never keeps the syncer alive
    child.unref();
    this.#process = child;
    return child;
  }

  #settle(answer: Answer): void {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    waiter?.(answer);
  }

  #end(reason: string): void {
    const child = this.#process;
    this.#process = undefined;
    child?.kill("SIGKILL");
    this.#settle({ error: reason });
  }
}

/** What a hostile file has made of the reader may write anything. */
function answerIn(line: string): Answer {
  try {
    const answer = JSON.parse(line) as Answer | null;
    if (answer && ("value" in answer || typeof answer.error === "string")) return answer;
  } catch {
    // the same answer as below
  }
  return { error: "the reader gave no answer" };
}
