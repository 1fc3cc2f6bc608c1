/** How far a transfer is: a line on a terminal that is drawn anew, and nothing elsewhere. */
import type { WriteStream } from "node:tty";
import type { Progress } from "../transfer/report.ts";

/** between two drawings, in milliseconds */
const drawMs = 100;
const defaultColumns = 80;

export class ProgressLine {
  readonly #stream: WriteStream;
  readonly #startedAt = performance.now();
  #drawnAt = Number.NEGATIVE_INFINITY;
  #isDrawn = false;

  constructor(stream: WriteStream) {
    this.#stream = stream;
  }

  show(progress: Progress): void {
    const now = performance.now();
    if (!this.#stream.isTTY || now - this.#drawnAt < drawMs) return;
    this.#drawnAt = now;
    this.#isDrawn = true;
    const words = progressWords(progress, (now - this.#startedAt) / 1000);
    this.#stream.write(`\r\x1b[2K${[...words].slice(0, (this.#stream.columns ?? defaultColumns) - 1).join("")}`);
  }

  clear(): void {
    if (this.#isDrawn) this.#stream.write("\r\x1b[2K");
    this.#isDrawn = false;
  }
}

export function progressWords({ bytes, files, total, path }: Progress, seconds: number): string {
  const share = total && total.bytes > 0 ? `${Math.min(100, Math.floor((100 * bytes) / total.bytes))} %  ` : "";
  const ofBytes = total ? ` of ${sizeWords(total.bytes)}` : "";
  const ofFiles = total ? ` of ${total.files}` : "";
  const rate = seconds > 0 ? `${sizeWords(bytes / seconds)}/s` : "";
  return `${share}${sizeWords(bytes)}${ofBytes}  ${files}${ofFiles} files  ${rate}  ${path}`;
}

/** "1.5 MiB" */
export function sizeWords(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, bytes)) / 10)));
  const value = bytes / 1024 ** power;
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}
