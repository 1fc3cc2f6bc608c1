/**
 * Every message between the host and the agent daemon, one JSON object a line. Both sides parse with these schemas.
 * Contract: a turn ends with exactly one END_TURN, whatever happened, and nothing of that turn follows it.
 */
import { z } from "zod";
import { maxModelLength, maxNonceLength, maxTurnIdLength } from "./limits.ts";

/** A word by which a refusal is known, as claude passes it on. */
export const reasonPattern = /^[a-z][a-z0-9_]{0,63}$/;

const turnId = z.string().min(1).max(maxTurnIdLength);

const userMessageSchema = z.object({
  type: z.literal("user"),
  turnId,
  nonce: z.string().min(1).max(maxNonceLength),
  text: z.string(),
});

/** A user message without its text: it names the turn, and its END_TURN needs no more. */
export const turnIdsSchema = userMessageSchema.omit({ text: true });
export type TurnIds = z.infer<typeof turnIdsSchema>;

export const hostMessageSchema = z.discriminatedUnion("type", [
  /** first line of every client: the daemon answers `hello`, then every logged event with `seq` > `after`, then live ones */
  z.object({ type: z.literal("attach"), after: z.number().int().min(0) }),
  /** one user message; queued while another turn runs. `nonce` comes back in END_TURN and nowhere else */
  userMessageSchema,
  /**
   * ends a turn that runs or waits with result `interrupted`: the one with that id, or without an id the first. Nothing happens
   * when there is none
   */
  z.object({ type: z.literal("interrupt"), turnId: turnId.optional() }),
  z.object({ type: z.literal("set_model"), model: z.string().min(1).max(maxModelLength) }),
  /** ends the daemon after the transcript is on disk */
  z.object({ type: z.literal("shutdown") }),
]);
export type HostMessage = z.infer<typeof hostMessageSchema>;

const usageSchema = z.object({
  inputTokens: z.number(),
  outputTokens: z.number(),
  cacheReadTokens: z.number(),
  cacheWriteTokens: z.number(),
});
export type Usage = z.infer<typeof usageSchema>;

const turnResults = ["success", "interrupted", "error", "max_turns"] as const;

/** place in the session's event log, from 1; `hello` repeats the last one, being unlogged itself */
const seq = z.number().int().min(0);

export const agentEventSchema = z.discriminatedUnion("type", [
  z.object({
    seq,
    type: z.literal("hello"),
    protocol: z.number(),
    sessionId: z.string(),
    /** true when the conversation continues one that is on disk */
    resumed: z.boolean(),
    /** the turn that is running now, null when idle */
    runningTurnId: turnId.nullable(),
  }),
  /**
   * the message has arrived and waits. A message whose turnId is new is answered, in order: by this, by turn_started or by
   * its END_TURN. Repeating a message whose turnId the daemon knows does nothing, and is not answered
   */
  z.object({
    seq,
    type: z.literal("turn_queued"),
    turnId,
    /** how many turns come before it */
    position: z.number().int(),
  }),
  z.object({ seq, type: z.literal("turn_started"), turnId }),
  z.object({ seq, type: z.literal("text_delta"), turnId, text: z.string() }),
  /** the text streamed so far stands: its block is complete */
  z.object({ seq, type: z.literal("text_ended"), turnId }),
  /** text streamed since the last text_ended is void: the API request is being repeated */
  z.object({ seq, type: z.literal("text_discarded"), turnId }),
  z.object({
    seq,
    type: z.literal("tool_started"),
    turnId,
    toolId: z.string(),
    name: z.string(),
    /** JSON of the tool's input, cut to maxToolTextLength */
    input: z.string(),
  }),
  z.object({
    seq,
    type: z.literal("tool_ended"),
    turnId,
    toolId: z.string(),
    isError: z.boolean(),
    /** cut to maxToolTextLength */
    output: z.string(),
  }),
  z.object({
    seq,
    type: z.literal("status"),
    turnId: turnId.optional(),
    kind: z.enum(["retry", "compacting", "model", "crash", "notice"]),
    message: z.string(),
  }),
  /** figures of one answered API request */
  z.object({ seq, type: z.literal("usage"), turnId, usage: usageSchema }),
  /**
   * a client's line that could not be used: malformed, unknown or over the cap. The connection goes on. A user message
   * whose turnId and nonce can be made out is answered with the END_TURN of its turn instead
   */
  z.object({ seq, type: z.literal("protocol_error"), reason: z.string() }),
  z.object({
    seq,
    type: z.literal("END_TURN"),
    turnId,
    nonce: z.string(),
    result: z.enum(turnResults),
    /** the agent's last words, empty when there were none; cut to half of maxAgentLineBytes */
    text: z.string(),
    /** why, when result is not `success` */
    error: z
      .object({
        message: z.string(),
        /** of the API's last answer, null when it was not about a request */
        apiStatus: z.number().nullable(),
        /**
         * the proxy's reason for refusing the request, the API's own code, or the host's "message_too_long"; null when none
         * was named
         */
        reason: z.string().regex(reasonPattern).nullable().catch(null),
      })
      .nullable(),
    usage: usageSchema,
    costUsd: z.number(),
    durationMs: z.number(),
  }),
]);
export type AgentEvent = z.infer<typeof agentEventSchema>;
export type EndTurn = Extract<AgentEvent, { type: "END_TURN" }>;

/** An event before the log has numbered it. */
export type UnnumberedEvent = AgentEvent extends infer Event
  ? Event extends AgentEvent
    ? Omit<Event, "seq">
    : never
  : never;
