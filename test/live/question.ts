/** One question to the real cloud: a test that measures, reports, and asserts only what the design relies on. */
import { type TestContext, test } from "node:test";
import { messageOf } from "../../src/errors.ts";
import { Cloud } from "./cloud.ts";
import { questions } from "./questions.ts";
import { folderVariable, RunFolder } from "./run-folder.ts";

export interface Asking {
  cloud: Cloud;
  /** One line of the answer; there may be several. Said before it is judged, so that a surprise is reported too. */
  answer(text: string): void;
}

export interface QuestionOptions {
  /** why the emulator cannot even be asked */
  notEmulated?: string;
}

/** Registers the test. Every question ends with at least one answer line, also when it fails. */
export function question(
  number: number,
  body: (asking: Asking) => Promise<void>,
  { notEmulated }: QuestionOptions = {},
): void {
  const asked = questions.find((known) => known.number === number);
  if (!asked) throw new Error(`there is no question ${number}`);
  test(`question ${number}: ${asked.asks} (decides ${asked.decides})`, async (context) => {
    const folder = new RunFolder(process.env[folderVariable] ?? "");
    const lines: string[] = [];
    const answer = (text: string) => {
      lines.push(text);
      folder.addAnswer({ number, text });
      context.diagnostic(`answer ${number}: ${text}`);
    };
    try {
      await ask(body, answer, context, notEmulated);
    } catch (error) {
      answer(`${lines.length === 0 ? "none" : "then it failed"}: ${messageOf(error)}`);
      throw error;
    }
    if (lines.length === 0) throw new Error("the question has no answer");
  });
}

async function ask(
  body: (asking: Asking) => Promise<void>,
  answer: (text: string) => void,
  context: TestContext,
  notEmulated: string | undefined,
): Promise<void> {
  await using cloud = await Cloud.open();
  if (cloud.isEmulator && notEmulated !== undefined) {
    answer(`cannot be answered here (emulator): ${notEmulated}`);
    context.skip(notEmulated);
    return;
  }
  await body({ cloud, answer });
}

/** How something ended, for an answer: its value or the words of its error. */
export async function outcomeOf(action: () => Promise<unknown>): Promise<string> {
  try {
    return String(await action());
  } catch (error) {
    return `error (${messageOf(error).slice(0, 200)})`;
  }
}

/** Tries until `isDone`, with a pause between, for at most `deadlineMs`; the milliseconds it took, undefined when it never was. */
export async function msUntil(isDone: () => Promise<boolean>, deadlineMs: number): Promise<number | undefined> {
  const startedAt = Date.now();
  while (Date.now() - startedAt < deadlineMs) {
    if (await isDone()) return Date.now() - startedAt;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  return undefined;
}

export function median(values: readonly number[]): number {
  return values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)] ?? Number.NaN;
}
