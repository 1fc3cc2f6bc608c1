/**
 * The session's one conversation with claude: kept open, restarted when claude dies, one user message at a time.
 * Messages that claude gets while it works would melt into one turn, so later ones wait here.
 */
import { type Query, query, type SDKMessage, type SDKResultMessage } from "@anthropic-ai/claude-agent-sdk";
import type { HostMessage, TurnIds, UnnumberedEvent } from "../protocol/messages.ts";
import type { AgentConfig } from "./agent-config.ts";
import { claudeOptions } from "./claude-options.ts";
import { Inbox } from "./inbox.ts";
import { killOrphans } from "./orphans.ts";
import type { SessionFile } from "./session-file.ts";
import { Turn } from "./turn.ts";

/** claude deaths in a row after which only a new message of the user starts it again */
const maxRestarts = 3;
const maxSeen = 1000;
/** claude's own end takes about 0.1 s after SIGTERM */
const shutdownGraceMs = 2000;

export interface ConversationOptions {
  config: AgentConfig;
  environment: Readonly<Record<string, string | undefined>>;
  session: SessionFile;
  /** Messages are accepted before this resolves; the first one starts after it. */
  ready: Promise<void>;
  emit: (event: UnnumberedEvent) => void;
}

/** One run of the claude program. */
interface Claude {
  query: Query;
  inbox: Inbox;
  pid: number | undefined;
  /** US dollars of this run's turns so far */
  costUsd: number;
  /** last words on its error stream */
  words: string;
  /** the transcript that it should have continued is gone */
  conversationMissing: boolean;
}

export class Conversation {
  readonly #options: ConversationOptions;
  readonly #queue: Turn[] = [];
  /** ids of the last turns, the oldest first */
  readonly #seen = new Set<string>();
  #running: Turn | undefined;
  #claude: Claude | undefined;
  #deathsInARow = 0;
  #model: string | undefined;
  #isReady = false;
  #closing = false;
  #wake: (() => void) | undefined;
  #done: Promise<void>;

  /** Starts claude at once, before the first message. */
  constructor(options: ConversationOptions) {
    this.#options = options;
    this.#model = options.config.model;
    this.#done = this.#drive();
    void options.ready.then(() => {
      this.#isReady = true;
      this.#startNext();
    });
  }

  get runningTurnId(): string | null {
    return this.#running?.turnId ?? null;
  }

  take(message: Exclude<HostMessage, { type: "attach" | "shutdown" }>): void {
    if (message.type === "user") this.#takeUser(message);
    else if (message.type === "interrupt") this.#interrupt(message.turnId);
    else void this.#setModel(message.model);
  }

  /**
   * Ends the turn of a message that could not be read. False when the turn is known: a line that is damaged on its way a second
   * time must not end what the first one began, and no turn ends twice.
   */
  refuse({ turnId, nonce }: TurnIds, reason: string): boolean {
    if (!this.#isNew(turnId)) return false;
    const turn = new Turn({ turnId, nonce, text: "" });
    this.#options.emit(turn.endWithoutResult("error", `The agent could not read the message: ${reason}`));
    return true;
  }

  /** A host that lost its connection says again what it has no end of. */
  #takeUser(message: Extract<HostMessage, { type: "user" }>): void {
    if (this.#isNew(message.turnId)) this.#enqueue(new Turn(message));
  }

  /** True once for each id. */
  #isNew(turnId: string): boolean {
    if (this.#seen.has(turnId) || this.#openTurns().some((turn) => turn.turnId === turnId)) return false;
    this.#seen.add(turnId);
    if (this.#seen.size > maxSeen) this.#seen.delete(this.#seen.values().next().value as string);
    return true;
  }

  /** The one that runs, then those that wait. */
  #openTurns(): Turn[] {
    return this.#running ? [this.#running, ...this.#queue] : [...this.#queue];
  }

  /** Ends the turns and claude, with the transcript on disk. */
  async shutdown(): Promise<void> {
    this.#closing = true;
    for (const turn of this.#openTurns()) {
      this.#options.emit(turn.endWithoutResult("interrupted", "The session was shut down"));
    }
    this.#queue.length = 0;
    this.#running = undefined;
    this.#wake?.();
    const claude = this.#claude;
    claude?.inbox.close();
    if (claude?.pid === undefined) return;
    killQuietly(claude.pid, "SIGTERM");
    const timer = setTimeout(killQuietly, shutdownGraceMs, claude.pid, "SIGKILL");
    await this.#done;
    clearTimeout(timer);
  }

  #enqueue(turn: Turn): void {
    if (this.#closing) {
      this.#options.emit(turn.endWithoutResult("interrupted", "The session was shut down"));
      return;
    }
    this.#queue.push(turn);
    this.#wake?.();
    this.#startNext();
    if (this.#running === turn) return;
    this.#options.emit({ type: "turn_queued", turnId: turn.turnId, position: this.#openTurns().indexOf(turn) });
  }

  #startNext(): void {
    if (!this.#isReady || this.#running || !this.#claude) return;
    const turn = this.#queue.shift();
    if (!turn) return;
    this.#running = turn;
    turn.start();
    this.#options.emit({ type: "turn_started", turnId: turn.turnId });
    this.#claude.inbox.push(turn.uuid, turn.text);
  }

  #interrupt(turnId: string | undefined): void {
    const turn = this.#openTurns().find((open) => turnId === undefined || open.turnId === turnId);
    if (!turn) return;
    turn.interrupted = true;
    if (turn === this.#running) {
      this.#askToStop();
      return;
    }
    this.#queue.splice(this.#queue.indexOf(turn), 1);
    this.#options.emit(turn.endWithoutResult("interrupted", "The turn was interrupted"));
  }

  #askToStop(): void {
    // rejects when claude died meanwhile, which ends the turn as well
    this.#claude?.query.interrupt().catch(() => {});
  }

  async #setModel(model: string): Promise<void> {
    this.#model = model;
    try {
      await this.#claude?.query.setModel(model);
      this.#status("model", `The model is now ${model}`);
    } catch (error) {
      this.#status("notice", `The model could not be changed: ${messageOf(error)}`);
    }
  }

  async #drive(): Promise<void> {
    while (!this.#closing) {
      const claude = this.#open();
      this.#claude = claude;
      if (this.#running) claude.inbox.push(this.#running.uuid, this.#running.text);
      this.#startNext();
      const reason = await this.#listen(claude);
      this.#claude = undefined;
      if (!this.#closing) await this.#recover(claude, reason);
    }
  }

  #open(): Claude {
    const { config, environment, session } = this.#options;
    const inbox = new Inbox();
    const resume = session.canResume() ? session.claudeSessionId : undefined;
    const claude: Claude = {
      inbox,
      pid: undefined,
      costUsd: 0,
      words: "",
      conversationMissing: false,
      query: query({
        prompt: inbox,
        options: {
          ...claudeOptions(
            { ...config, ...(this.#model !== undefined && { model: this.#model }) },
            environment,
            resume,
          ),
          stderr: (text) => {
            claude.words = `${claude.words}${text}`.slice(-1000);
          },
        },
      }),
    };
    claude.query.initializationResult().then(
      (result) => {
        claude.pid = (result as { pid?: number }).pid;
      },
      () => {
        // the iterator reports the same failure
      },
    );
    return claude;
  }

  /** Takes claude's messages until it ends; the reason of its end. */
  async #listen(claude: Claude): Promise<string> {
    try {
      for await (const message of claude.query) this.#takeMessage(claude, message);
      return "claude ended";
    } catch (error) {
      return messageOf(error);
    }
  }

  #takeMessage(claude: Claude, message: SDKMessage): void {
    if (message.type === "result" && message.subtype !== "success" && isMissingConversation(message.errors)) {
      claude.conversationMissing = true;
      return;
    }
    this.#remember(message.session_id);
    const turn = this.#running;
    if (!turn) return;
    if (message.type === "result") {
      this.#takeResult(claude, turn, message);
      return;
    }
    // an interrupt that came before claude had begun the turn did nothing
    if (turn.interrupted && message.type === "system" && message.subtype === "init") this.#askToStop();
    for (const event of turn.translator.translate(message)) this.#options.emit(event);
  }

  #takeResult(claude: Claude, turn: Turn, result: SDKResultMessage): void {
    const costUsd = Math.max(0, result.total_cost_usd - claude.costUsd);
    claude.costUsd = result.total_cost_usd;
    if (!turn.isAnsweredBy(result)) return;
    this.#deathsInARow = 0;
    this.#running = undefined;
    this.#options.emit(turn.end(turn.outcomeOf(result), costUsd));
    this.#startNext();
  }

  async #recover(claude: Claude, reason: string): Promise<void> {
    const { session, emit } = this.#options;
    if (session.claudeSessionId !== undefined) killOrphans(session.claudeSessionId);
    if (claude.conversationMissing) {
      this.#remember(undefined);
      this.#status("notice", "The earlier conversation could not be found; a new one begins");
      return;
    }
    this.#deathsInARow += 1;
    const words = claude.words.trim().split("\n").at(-1);
    const message = `claude stopped working: ${reason}${words ? ` (${words})` : ""}`;
    this.#status("crash", message);
    const turn = this.#running;
    this.#running = undefined;
    if (turn) emit(turn.endWithoutResult("error", message));
    if (this.#deathsInARow >= maxRestarts && this.#queue.length === 0) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #remember(claudeSessionId: string | undefined): void {
    if (claudeSessionId === this.#options.session.claudeSessionId) return;
    try {
      this.#options.session.remember(claudeSessionId);
    } catch (error) {
      this.#status("notice", `The conversation could not be saved: ${messageOf(error)}`);
    }
  }

  #status(kind: "crash" | "model" | "notice", message: string): void {
    const turnId = this.#running?.turnId;
    this.#options.emit({ type: "status", ...(turnId !== undefined && { turnId }), kind, message });
  }
}

function isMissingConversation(errors: readonly string[]): boolean {
  return errors.some((error) => error.startsWith("No conversation found"));
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function killQuietly(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // it ended by itself
  }
}
