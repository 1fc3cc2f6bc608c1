/** half of what SandboxEnd.outputTail may hold */
const bytesPerStream = 4 * 1024;

/**
 * The last of what a main process writes, per stream: the two come by separate ways, and a late flood on stdout must not
 * push out why the process ended, which it says on stderr.
 */
export class LastOutput {
  readonly #tails = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };

  keep(stream: "stdout" | "stderr", chunk: Buffer): void {
    this.#tails[stream] = Buffer.concat([this.#tails[stream], chunk]).subarray(-bytesPerStream);
  }

  /** stdout's, then stderr's */
  text(): string {
    return Buffer.concat([this.#tails.stdout, this.#tails.stderr]).toString("utf8");
  }
}
