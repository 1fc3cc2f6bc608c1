/** One turn as the daemon keeps it, and how claude's result becomes its END_TURN. */
import { randomUUID } from "node:crypto";
import type { SDKResultMessage } from "@anthropic-ai/claude-agent-sdk";
import { maxAgentLineBytes } from "../protocol/limits.ts";
import { type EndTurn, reasonPattern } from "../protocol/messages.ts";
import { TurnTranslator, usageOf } from "./translate.ts";

/** the last words and the error message share one line of the protocol */
const maxTextBytes = maxAgentLineBytes / 2;
const maxMessageLength = 4096;

type Outcome = Pick<EndTurn, "result" | "text" | "error" | "usage">;

export class Turn {
  readonly turnId: string;
  readonly text: string;
  /** claude's name for the user's message: its result carries it */
  readonly uuid = randomUUID();
  readonly translator: TurnTranslator;
  readonly #nonce: string;
  #startedAt = Date.now();
  interrupted = false;

  constructor(message: { turnId: string; nonce: string; text: string }) {
    this.turnId = message.turnId;
    this.text = message.text;
    this.#nonce = message.nonce;
    this.translator = new TurnTranslator(message.turnId);
  }

  /** The time of a queued turn counts from here. */
  start(): void {
    this.#startedAt = Date.now();
  }

  end(outcome: Outcome, costUsd: number): Omit<EndTurn, "seq"> {
    const durationMs = Date.now() - this.#startedAt;
    return { type: "END_TURN", turnId: this.turnId, nonce: this.#nonce, ...outcome, costUsd, durationMs };
  }

  /** For a turn that claude did not end itself. */
  endWithoutResult(result: "interrupted" | "error", message: string): Omit<EndTurn, "seq"> {
    return this.end(
      { result, text: "", error: { message, apiStatus: null, reason: null }, usage: usageOf(undefined) },
      0,
    );
  }

  /** Whether `result` answers this turn, and not a task that claude began by itself. */
  isAnsweredBy(result: SDKResultMessage): boolean {
    if (result.user_message_uuids) return result.user_message_uuids.includes(this.uuid);
    return result.origin?.kind !== "task-notification";
  }

  /** Judged by `is_error`: a failed API request has the subtype `success`. */
  outcomeOf(result: SDKResultMessage): Outcome {
    const usage = usageOf(result.usage);
    const words = result.subtype === "success" ? result.result : "";
    if (!result.is_error) return { result: "success", text: cutToBytes(words, maxTextBytes), error: null, usage };
    const text = cutToBytes(this.translator.lastText, maxTextBytes);
    if (this.interrupted && result.terminal_reason?.startsWith("aborted")) {
      return {
        result: "interrupted",
        text,
        error: { message: "The turn was interrupted", apiStatus: null, reason: null },
        usage,
      };
    }
    const apiStatus = result.subtype === "success" ? (result.api_error_status ?? null) : null;
    const reasons = result.subtype === "success" ? words : result.errors.join("\n");
    const message = (reasons || result.terminal_reason || result.subtype).slice(0, maxMessageLength);
    return {
      result: result.subtype === "error_max_turns" ? "max_turns" : "error",
      text,
      error: { message, apiStatus, reason: reasonOf(result) },
      usage,
    };
  }
}

/**
 * What the API's error names in `error.details.error_code`. The SDK's types lack the field; seen with claude 2.1.330, which
 * passes on what looks like a word.
 */
function reasonOf(result: SDKResultMessage): string | null {
  const { api_error_code: code } = result as { api_error_code?: unknown };
  return typeof code === "string" && reasonPattern.test(code) ? code : null;
}

/** As much of the beginning as takes `maxBytes` in JSON. */
function cutToBytes(text: string, maxBytes: number): string {
  const bytes = Buffer.byteLength(JSON.stringify(text));
  return bytes <= maxBytes ? text : cutToBytes(text.slice(0, Math.floor((text.length * maxBytes) / bytes)), maxBytes);
}
