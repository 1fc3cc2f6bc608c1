/** A process that opens untrusted databases, so that the one with the token need not: a request a line, an answer a line. */
import { createInterface } from "node:readline";
import { messageOf } from "../errors.ts";
import { fragmentsByProject, readCurves } from "./curves.ts";
import { countRuns, readDelta } from "./database.ts";
import { readFragments } from "./fragments.ts";
import type { ReaderRequest } from "./reader.ts";

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(answerTo(JSON.parse(line) as ReaderRequest))}\n`);
}

function answerTo(request: ReaderRequest): object {
  try {
    return { value: valueFor(request) };
  } catch (error) {
    return { error: messageOf(error) };
  }
}

function valueFor(request: ReaderRequest): unknown {
  switch (request.op) {
    case "delta":
      return readDelta(request);
    case "count":
      return countRuns(request.path, request.access, request.table, request.upTo);
    case "curves":
      return readCurves(request);
    case "lot":
      return readFragments(request.fragments, request.lotBytes);
    case "fragments":
      return fragmentsByProject(request.fragments);
  }
}
