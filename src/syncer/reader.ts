/** The syncer's end of the reader: a process of its own, ended and made anew when a file keeps it too long. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import type { CurvesRequest, FragmentPath, ProjectCurves } from "./curves.ts";
import type { Access, DeltaRequest } from "./database.ts";
import type { FragmentLot } from "./fragments.ts";
import type { CountedTable, Delta, RunCount } from "./rows.ts";
import type { FragmentFile } from "./trackio-folder.ts";

export type ReaderRequest =
  | ({ op: "delta" } & DeltaRequest)
  | { op: "count"; path: string; access: Access; table: CountedTable; upTo: number }
  | ({ op: "curves" } & CurvesRequest)
  | { op: "fragments"; fragments: readonly FragmentPath[] }
  | { op: "lot"; fragments: readonly FragmentFile[]; lotBytes: number };

/** a file that takes longer is hostile or too big, in milliseconds */
const timeoutMs = 30_000;
/** of one answer; a batch and its configs are far smaller, in bytes */
const maxAnswerBytes = 64 * 1024 * 1024;
/** of JavaScript's own values, in MiB; SQLite has a limit of its own */
const heapMiB = 192;

const program = fileURLToPath(new URL(`./reader-main${import.meta.url.slice(-3)}`, import.meta.url));

/** reader-main as it runs, wherever: a request a line in, an answer a line out. */
export interface ReaderProcess {
  stdin: Writable;
  stdout: Readable;
  /** never rejects */
  exited: Promise<unknown>;
  kill(): void;
}

/** Starts node with the options and reader-main. */
export type OpenReader = (nodeOptions: readonly string[]) => Promise<ReaderProcess>;

type Answer = { value: unknown } | { error: string };

export class Reader implements Disposable {
  readonly #open: OpenReader;
  #process: ReaderProcess | undefined;
  #waiter: ((answer: Answer) => void) | undefined;
  /** requests follow each other */
  #last: Promise<unknown> = Promise.resolve();

  /** By default the reader is a process beside this one. */
  constructor(open: OpenReader = openBeside) {
    this.#open = open;
  }

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

  /** The rows of the first fragments, as many as have so many bytes. */
  fragmentLot(fragments: readonly FragmentFile[], lotBytes: number): Promise<FragmentLot> {
    return this.#ask({ op: "lot", fragments, lotBytes }) as Promise<FragmentLot>;
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
    const child = this.#process ?? (await this.#start());
    const { promise, resolve } = Promise.withResolvers<Answer>();
    this.#waiter = resolve;
    const timer = setTimeout(() => this.#end(`it takes longer than ${timeoutMs / 1000} s to read`), timeoutMs);
    child.stdin.write(`${JSON.stringify(request)}\n`);
    const answer = await promise;
    clearTimeout(timer);
    if ("error" in answer) throw new Error(answer.error);
    return answer.value;
  }

  async #start(): Promise<ReaderProcess> {
    const child = await this.#open(["--disable-warning=ExperimentalWarning", `--max-old-space-size=${heapMiB}`]);
    this.#process = child;
    child.stdin.on("error", () => {});
    let bytes = 0;
    child.stdout.on("data", (chunk: Buffer) => {
      const newline = chunk.lastIndexOf(10);
      bytes = newline === -1 ? bytes + chunk.length : chunk.length - newline - 1;
      // readline holds an unfinished line without a limit of its own
      if (bytes > maxAnswerBytes && this.#process === child) this.#end("the reader's answer is too long");
    });
    createInterface({ input: child.stdout }).on("line", (line) => {
      if (this.#process === child) this.#settle(answerIn(line));
    });
    void child.exited.then(() => {
      if (this.#process === child) this.#end("reading it ended the reader");
    });
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
    child?.kill();
    this.#settle({ error: reason });
  }
}

async function openBeside(nodeOptions: readonly string[]): Promise<ReaderProcess> {
  // nothing of our environment, for a token may be in it
  const child = spawn(process.execPath, [...nodeOptions, program], { env: {}, stdio: ["pipe", "pipe", "ignore"] });
  // it never keeps the syncer alive
  child.unref();
  const exited = Promise.race([once(child, "exit"), once(child, "close")]).catch(() => {});
  return { stdin: child.stdin, stdout: child.stdout, exited, kill: () => child.kill("SIGKILL") };
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
