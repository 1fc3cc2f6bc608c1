/** The turns of a session that have not ended, in the order in which they were asked for. */
import { randomBytes, randomUUID } from "node:crypto";
import type { AgentEvent, EndTurn, HostMessage } from "../protocol/messages.ts";
import { sanitizeText } from "../sanitize.ts";
import type { Inheritance } from "./inheritance.ts";
import { withNotes } from "./message-size.ts";

type Send = (message: HostMessage) => void;

/** how many turns that were ended here are remembered */
const maxEndedHere = 100;

export interface OpenTurn {
  readonly turnId: string;
  readonly nonce: string;
  /** what the user said; from `sent` on with the host's notes before it */
  text: string;
  /**
   * `waiting` for a sandbox; `sent` to the daemon, which may not have got it; `heard`: the daemon has sent an event of it
   */
  phase: "waiting" | "sent" | "heard";
  isInterrupted: boolean;
  /** sent by a process before this one */
  readonly isInherited: boolean;
  readonly startedAt: number;
  readonly ended: Promise<EndTurn>;
  readonly resolve: (end: EndTurn) => void;
}

export class OpenTurns {
  readonly #turns = new Map<string, OpenTurn>();
  /** Nonces of turns that the daemon may have and that were ended here, by id, the oldest first. */
  readonly #endedHere = new Map<string, string>();
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

  begin(text: string, turnId: string = randomUUID()): OpenTurn {
    const nonce = randomBytes(16).toString("hex");
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
    return [...sent.flatMap(messagesOf), ...[...this.#endedHere.keys()].map(interruptOf)];
  }

  /**
   * The daemon did not understand a line, and cannot tell which. Each turn that it has not answered may be the one, so all
   * of them end. The daemon may have got some of these after all: the interrupt keeps claude from working on a message
   * that the user was told had failed.
   */
  takeProtocolError(reason: string, send: Send): void {
    for (const turn of this.#turns.values()) {
      if (turn.phase !== "sent") continue;
      this.end(turn, "error", `The agent did not understand the message: ${reason}`);
      send(interruptOf(turn.turnId));
    }
  }

  /**
   * Ends the first turn that this process began, even while one that it inherited runs: a user who stops something means
   * their own message. Without one it ends the first inherited turn. A turn that was not sent yet ends here, any other in the
   * daemon.
   */
  interrupt(send: Send): void {
    const turns = [...this.#turns.values()];
    const turn = turns.find(({ isInherited }) => !isInherited) ?? turns[0];
    if (!turn) return;
    turn.isInterrupted = true;
    if (turn.phase === "waiting") this.end(turn, "interrupted", "The turn was interrupted");
    else send(interruptOf(turn.turnId));
  }

  /**
   * Notes what an event says about the turns, and tells how to treat it. `endedHere`: its turn was ended here before, so
   * the user must hear no more of it. `unknown`: the end of another client's turn, or a forged one, as only the daemon knows a
   * turn's nonce. `open`: all others.
   */
  take(event: AgentEvent): "open" | "endedHere" | "unknown" {
    this.#lastSeq = event.type === "hello" ? event.seq : Math.max(this.#lastSeq, event.seq);
    const turnId = "turnId" in event ? event.turnId : undefined;
    if (turnId === undefined) return "open";
    const turn = this.#turns.get(turnId);
    const nonceOfEnded = this.#endedHere.get(turnId);
    if (event.type !== "END_TURN") {
      if (turn && turn.phase !== "waiting") turn.phase = "heard";
      return nonceOfEnded === undefined ? "open" : "endedHere";
    }
    if (nonceOfEnded === event.nonce) {
      this.#endedHere.delete(turnId);
      return "endedHere";
    }
    if (turn?.nonce !== event.nonce) return "unknown";
    this.#close(turn, event);
    return "open";
  }

  /** Ends a turn that the agent does not end. */
  end(turn: OpenTurn, result: "error" | "interrupted", message: string, reason: string | null = null): void {
    if (!this.isOpen(turn)) return;
    if (turn.phase !== "waiting") this.#rememberEnded(turn);
    this.#close(turn, {
      seq: this.#lastSeq,
      type: "END_TURN",
      turnId: turn.turnId,
      nonce: turn.nonce,
      result,
      text: "",
      // words of a sandbox may have come in by any error
      error: { message: sanitizeText(message), apiStatus: null, reason },
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

  #rememberEnded({ turnId, nonce }: OpenTurn): void {
    this.#endedHere.set(turnId, nonce);
    if (this.#endedHere.size > maxEndedHere) this.#endedHere.delete(this.#endedHere.keys().next().value as string);
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
  return [{ type: "user", turnId, nonce, text }, ...(isInterrupted ? [interruptOf(turnId)] : [])];
}

function interruptOf(turnId: string): HostMessage {
  return { type: "interrupt", turnId };
}
