/** The conversation with a program: each line of stdin is a message, each turn ends with the line END_TURN. */
import { LineSplitter } from "../protocol/json-lines.ts";
import { maxMessageBytes } from "../protocol/limits.ts";

/** Runs until stdin ends; the exit code of the last turn that failed, or 0. */
export async function runLines(
  input: NodeJS.ReadableStream,
  runTurn: (text: string) => Promise<number>,
): Promise<number> {
  // as much is kept of a longer line as makes a message too long, so that its turn is refused like that of any other
  const lines = new LineSplitter(maxMessageBytes, maxMessageBytes);
  let exitCode = 0;
  const take = async (line: ReturnType<LineSplitter["end"]>[number]) => {
    if ("text" in line && line.text.trim() === "") return;
    exitCode = (await runTurn("text" in line ? line.text : line.head)) || exitCode;
  };
  for await (const chunk of input) {
    for (const line of lines.push(chunk as Buffer)) await take(line);
  }
  for (const line of lines.end()) await take(line);
  return exitCode;
}
