/**
 * What one run of the suite keeps: what it spent, made and learned. The test files are processes of their own, and the script
 * that started them reads it after them, whatever ended them.
 */
import { appendFileSync, mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isAlive } from "../modal-emulator/is-alive.ts";

const prefix = "modal-sb-live-";

export const folderVariable = "MODAL_SB_LIVE_FOLDER";

export interface Answer {
  number: number;
  text: string;
}

interface Charge {
  what: string;
  usd: number;
}

/** Lists of lines in a folder: each append is one write. */
export class RunFolder {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** `server`: the address of Modal's API, or of an emulator */
  static create(server: string, pid = process.pid): RunFolder {
    const folder = new RunFolder(mkdtempSync(join(tmpdir(), `${prefix}${pid}-`)));
    folder.#add("server", server);
    return folder;
  }

  /** Of runs at that server whose process is gone: they may have left something there. */
  static abandoned(server: string): RunFolder[] {
    return readdirSync(tmpdir())
      .filter((name) => name.startsWith(prefix) && !isAlive(Number(name.slice(prefix.length).split("-")[0])))
      .map((name) => new RunFolder(join(tmpdir(), name)))
      .filter((folder) => folder.#read("server")[0] === server);
  }

  addAnswer(answer: Answer): void {
    this.#add("answers", answer);
  }

  answers(): Answer[] {
    return this.#read("answers") as Answer[];
  }

  addCharge(charge: Charge): void {
    this.#add("charges", charge);
  }

  charges(): Charge[] {
    return this.#read("charges") as Charge[];
  }

  /** before it is made */
  addVolume(name: string): void {
    this.#add("volumes", name);
  }

  volumes(): string[] {
    return this.#read("volumes") as string[];
  }

  #add(list: string, entry: unknown): void {
    appendFileSync(join(this.path, list), `${JSON.stringify(entry)}\n`);
  }

  #read(list: string): unknown[] {
    try {
      const lines = readFileSync(join(this.path, list), "utf8").split("\n");
      return lines.slice(0, -1).map((line) => JSON.parse(line) as unknown);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw error;
    }
  }
}
