/** The two streams of the command line: stdout is data, stderr is everything else. */
import { styleText } from "node:util";

export interface Output {
  /** data: the agent's text, JSON lines */
  data(text: string): void;
  /** everything else; a newline is added */
  note(text: string): void;
  dim(text: string): string;
  red(text: string): string;
  bold(text: string): string;
  /** true when a person reads the data */
  readonly isTerminal: boolean;
}

export function processOutput(): Output {
  const { stdout, stderr } = process;
  // a reader that has gone away, such as `head`, ends the data and not the teardown
  for (const stream of [stdout, stderr]) stream.on("error", () => {});
  const style = (format: "dim" | "red" | "bold") => (text: string) => styleText(format, text, { stream: stderr });
  return {
    data: (text) => stdout.write(text),
    note: (text) => stderr.write(`${text}\n`),
    dim: style("dim"),
    red: style("red"),
    bold: style("bold"),
    isTerminal: stdout.isTTY === true && process.stdin.isTTY === true,
  };
}
