/** The conversation with a program: each line of stdin is a message, each turn ends with the line END_TURN. */
import { LineSplitter } from "../protocol/json-lines.ts";
import { maxHostLineBytes } from "../protocol/limits.ts";
import type { Output } from "./output.ts";

/** a message must fit a line of the protocol, in which JSON may take more room */
const maxMessageBytes = maxHostLineBytes / 2;

/** Runs until stdin ends; the exit code of the last turn that failed, or 0. */
export async function runLines(
  input: NodeJS.ReadableStream,
  output: Output,
  runTurn: (text: string) => Promise<number>,
): Promise<number> {
  const lines = new LineSplitter(maxMessageBytes);
  let exitCode = 0;
  const take = async (line: ReturnType<LineSplitter["end"]>[number]) => {
    if (!("text" in line)) {
      output.note(`error: a message of ${line.droppedBytes} bytes was dropped: the limit is ${maxMessageBytes}`);
    } else if (line.text.trim() !== "") {
      exitCode = (await runTurn(line.text)) || exitCode;
    }
  };
  for await (const chunk of input) {
    for (const line of lines.push(chunk as Buffer)) await take(line);
  }
  for (const line of lines.end()) await take(line);
  return exitCode;
}
