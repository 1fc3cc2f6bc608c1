import { createInterface } from "node:readline/promises";

/** A question whose answer is no unless it is yes; the terminal is stdin and stderr. */
export async function askAtTerminal(question: string): Promise<boolean> {
  const reader = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await reader.question(`${question} [y/N] `)).trim());
  } catch {
    // Ctrl-C, Ctrl-D
    process.stderr.write("\n");
    return false;
  } finally {
    reader.close();
  }
}
