/** A process that opens untrusted databases, so that the one with the token need not: a request a line, an answer a line. */
import { createInterface } from "node:readline";
import { messageOf } from "../errors.ts";
import { countRuns, readDelta } from "./database.ts";
import type { ReaderRequest } from "./reader.ts";

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(answerTo(JSON.parse(line) as ReaderRequest))}\n`);
}

function answerTo(request: ReaderRequest): object {
  try {
    const value =
      request.op === "delta"
        ? readDelta(request)
        : countRuns(request.path, request.access, request.table, request.upTo);
    return { value };
  } catch (error) {
    return { error: messageOf(error) };
  }
}
