import assert from "node:assert/strict";
import { test } from "node:test";
import { outcomeOf } from "../../src/cli/turn-outcome.ts";
import { exitCodes } from "../../src/errors.ts";
import type { EndTurn } from "../../src/protocol/messages.ts";

const exitCodeOf = (apiStatus: number | null, reason: string | null) =>
  outcomeOf({ result: "error", error: { message: "x", apiStatus, reason } } as EndTurn, false).exitCode;

test("a reason counts with the status that is ours, so that an upstream that names one decides no exit code", () => {
  assert.equal(exitCodeOf(402, "budget_exceeded"), exitCodes.budget);
  assert.equal(exitCodeOf(null, "message_too_long"), exitCodes.usage);
  for (const [status, reason] of [
    [401, "budget_exceeded"],
    [500, "message_too_long"],
    [429, "audit_unwritable"],
    [400, "upstream_unreachable"],
    [401, "constructor"],
  ] as const) {
    assert.equal(exitCodeOf(status, reason), exitCodes.upstream, `${status} ${reason}`);
  }
});
