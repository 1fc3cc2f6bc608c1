/** The turns of a session that have not ended, in the order in which they were asked for. */
import { randomBytes, randomUUID } from "node:crypto";
import type { AgentEvent, EndTurn, HostMessage } from "../protocol/messages.ts";
import { sanitizeText } from "../sanitize.ts";
import type { Inheritance } from "./inheritance.ts";
import { withNotes } from "./message-size.ts";

type Send = (message: HostMessage) => void;

export interface OpenTurn {
  readonly turnId: string;
  readonly nonce: string;
  /** what the user said; from `sent` on with the host's notes before it */
  text: string;
  /**
   * `waiting` for a sandbox; `sent` to the daemon; `repeated`, because it may not have been understood; `heard`: the
   * daemon has spoken of it
   */
  phase: "waiting" | "sent" | "repeated" | "heard";
  isInterrupted: boolean;
  /** sent by a process before this one */
  readonly isInherited: boolean;
  readonly startedAt: number;
  readonly ended: Promise<EndTurn>;
  readonly resolve: (end: EndTurn) => void;
}

export class OpenTurns {
  readonly #turns = new Map<string, OpenTurn>();
  readonly #inheritance: Inheritance;
  readonly #publish: (end: EndTurn) => void;
  #lastSeq = 0;

  /** Begins with the turns that a process before this one has left; `publish` gets each turn's end. */
  constructor(inheritance: Inheritance, publish: (end: EndTurn) => void) {
    this.#inheritance = inheritance;
    this.#publish = publish;
    for (const { turnId, nonce, text } of inheritance.turns) this.#open({ turnId, nonce, text, isInherited: true });
  }

  /** The first that a process before this one has left; undefined: none. */
  get inherited(): OpenTurn | undefined {
    return [...this.#turns.values()].find(({ isInherited }) => isInherited);
  }

  begin(text: string): OpenTurn {
    const [turnId, nonce] = [randomUUID(), randomBytes(16).toString("hex")];
    return this.#open({ turnId, nonce, text, isInherited: false });
  }

  /** From here on the next process finds it, should this one die. */
  keep({ turnId, nonce, text }: OpenTurn): void {
    this.#inheritance.note({ turnId, nonce, text, after: this.#lastSeq });
  }

  isOpen({ turnId }: OpenTurn): boolean {
    return this.#turns.has(turnId);
  }

  /** Sends a turn's message, with those of `notes` that fit; they are taken out. Nothing happens when the turn has ended. */
  send(turn: OpenTurn, notes: string[], send: Send): void {
    if (!this.isOpen(turn)) return;
    turn.text = withNotes(notes, turn.text);
    turn.phase = "sent";
    for (const message of messagesOf(turn)) send(message);
  }

  /** What a new connection must hear; the daemon knows by their ids the turns that it has. */
  unended(): HostMessage[] {
    const sent = [...this.#turns.values()].filter(({ phase }) => phase !== "waiting");
    for (const turn of sent) if (turn.phase === "repeated") turn.phase = "sent";
    return sent.flatMap(messagesOf);
  }

  /**
   * The daemon has not understood a line, and cannot tell which. It answers each message, in order: those that it has not
   * answered are sent again, and the one that it then does not understand either is ended.
   */
  takeProtocolError(reason: string, send: Send): void {
    for (const turn of this.#turns.values()) {
      if (turn.phase === "repeated") {
        this.end(turn, "error", `The agent did not understand the message: ${reason}`);
      } else if (turn.phase === "sent") {
        turn.phase = "repeated";
        for (const message of messagesOf(turn)) send(message);
      }
    }
  }

  /** Ends the first turn: here when the daemon does not have it yet, else by the daemon. */
  interrupt(send: Send): void {
    const turns = [...this.#turns.values()];
    const turn = turns.find(({ isInherited }) => !isInherited) ?? turns[0];
    if (!turn) return;
    turn.isInterrupted = true;
    if (turn.phase === "waiting") this.end(turn, "interrupted", "The turn was interrupted");
    else send(interruptOf(turn));
  }

  /** Notes what an event says about the turns. False for an end that is none of ours: only the daemon knows a turn's nonce. */
  take(event: AgentEvent): boolean {
    this.#lastSeq = event.type === "hello" ? event.seq : Math.max(this.#lastSeq, event.seq);
    const turn = "turnId" in event && event.turnId !== undefined ? this.#turns.get(event.turnId) : undefined;
    if (event.type === "END_TURN") {
      if (turn?.nonce !== event.nonce) return false;
      this.#close(turn, event);
    } else if (turn && turn.phase !== "waiting") {
      turn.phase = "heard";
    }
    return true;
  }

  /** Ends a turn that the agent does not end. */
  end(turn: OpenTurn, result: "error" | "interrupted", message: string): void {
    if (!this.isOpen(turn)) return;
    this.#close(turn, {
      seq: this.#lastSeq,
      type: "END_TURN",
      turnId: turn.turnId,
      nonce: turn.nonce,
      result,
      text: "",
      // words of a sandbox may have come in by any error
      error: { message: sanitizeText(message), apiStatus: null, reason: null },
      usage: { inputTokens: 0, outputTokens: 0, cacheReadTokens: 0, cacheWriteTokens: 0 },
      costUsd: 0,
      durationMs: Date.now() - turn.startedAt,
    });
  }

  fail(message: string): void {
    for (const turn of this.#turns.values()) this.end(turn, "error", message);
  }

  failInherited(message: string): void {
    for (const turn of this.#turns.values()) if (turn.isInherited) this.end(turn, "error", message);
  }

  #open(given: Pick<OpenTurn, "turnId" | "nonce" | "text" | "isInherited">): OpenTurn {
    const { promise: ended, resolve } = Promise.withResolvers<EndTurn>();
    const phase = given.isInherited ? "sent" : "waiting";
    const turn: OpenTurn = { ...given, phase, isInterrupted: false, startedAt: Date.now(), ended, resolve };
    this.#turns.set(turn.turnId, turn);
    return turn;
  }

  #close(turn: OpenTurn, end: EndTurn): void {
    this.#turns.delete(turn.turnId);
    this.#inheritance.forget(turn.turnId);
    this.#publish(end);
    turn.resolve(end);
  }
}

/** What the daemon must hear of a turn. */
function messagesOf(turn: OpenTurn): HostMessage[] {
  const { turnId, nonce, text, isInterrupted } = turn;
  return [{ type: "user", turnId, nonce, text }, ...(isInterrupted ? [interruptOf(turn)] : [])];
}

function interruptOf({ turnId }: OpenTurn): HostMessage {
  return { type: "interrupt", turnId };
}
