/**
 * One conversation, start to finish. The proxy and the agent start together; a lost sandbox ends the running turns and
 * is replaced when the next turn comes. The conversation itself lies on the data volume.
 */
import { setTimeout } from "node:timers/promises";
import { messageOf, SandboxError } from "../errors.ts";
import { maxModelLength } from "../protocol/limits.ts";
import type { AgentEvent, EndTurn, HostMessage } from "../protocol/messages.ts";
import type { SandboxEnd, Volume } from "../sandbox/provider.ts";
import { sanitizeText } from "../sanitize.ts";
import { Secret } from "../secret.ts";
import type { SyncSummary } from "../syncer/sync-summary.ts";
import { proxySecrets } from "./brokered.ts";
import type { Session, SessionEvent, SessionOptions } from "./contract.ts";
import { cannotBeLeft, Inheritance, notRunning, onlyNewEvents } from "./inheritance.ts";
import { lastWords } from "./last-words.ts";
import { Listeners } from "./listeners.ts";
import { lossWords, noteOfLoss } from "./loss.ts";
import { tooLong, tooLongReason } from "./message-size.ts";
import { MetricsSync } from "./metrics-sync.ts";
import { type OpenTurn, OpenTurns } from "./open-turns.ts";
import { refuseUnpayable } from "./payable.ts";
import { noteToAgent, wordsOf } from "./proxy-notices.ts";
import type { ProxyNotice } from "./proxy-role.ts";
import { type Running, type RunningParts, releaseRunning, startRunning, stopRunning } from "./running.ts";
import { checkSessionName, providerOf, refuseElsewhere, sessionIdOf } from "./session-file.ts";
import { type Spending, spendingOf } from "./spending.ts";
import { syncerSecrets } from "./syncer-role.ts";

export type { Session, SessionEvent, SessionOptions } from "./contract.ts";

/** how long a sandbox that has ended may need to say so */
const endMs = 3000;
/** how much of the agent's answer to a warning is shown */
const maxWarningWords = 600;

type Volumes = Record<"data" | "app" | "trackio" | "audit", Volume> & {
  /** what the syncer remembers; undefined: there is none */
  syncer: Volume | undefined;
};

/** Opens a session and begins to start it; see `ready`. A bad name, a busy or unwritable session throws at once. */
export async function openSession(options: SessionOptions): Promise<Session> {
  checkSessionName(options.name);
  refuseElsewhere(options.stateFolder, options.name, options.provider);
  const isNew = providerOf(options.stateFolder, options.name) === undefined;
  // before anything is made: a new session that cannot begin leaves nothing
  if (isNew) refuseUnpayable(options, { isNew });
  await using undo = new AsyncDisposableStack();
  const open = async (kind: string) => undo.use(await options.provider.volume(`${options.name}-${kind}`));
  // the first one is the session's lock; the others, which may be far away, are opened beside each other
  const data = await open("data");
  const opening = [open("app"), open("trackio"), open("audit"), options.metrics ? open("syncer") : undefined] as const;
  await Promise.allSettled(opening);
  const [app, trackio, audit, syncer] = await Promise.all(opening);
  if (!isNew) refuseUnpayable(options, { isNew, auditFolder: audit.hostPath });
  const volumes: Volumes = { data, app, trackio, audit, syncer };
  const id = sessionIdOf(options.stateFolder, options.name, options.provider);
  return new RunningSession(options, id, volumes, undo.move());
}

class RunningSession implements Session {
  readonly name: string;
  readonly ready: Promise<void>;
  #options: SessionOptions;
  readonly #sessionId: string;
  readonly #volumes: Volumes;
  readonly #locks: AsyncDisposableStack;
  readonly #abort = new AbortController();
  readonly #listeners = new Listeners();
  readonly #turns: OpenTurns;
  /** the start under way or done; undefined when a sandbox was lost and no turn has asked for a new one */
  #start: Promise<Running> | undefined;
  /** the end of the sandboxes that were lost: their names and volumes are free then */
  #stopped: Promise<void> = Promise.resolve();
  /** told with the next message */
  readonly #notesToAgent: string[] = [];
  readonly #metricsSync: MetricsSync | undefined;
  #metrics: SyncSummary | undefined;
  #disposed: Promise<void> | undefined;
  readonly #inherited: Inheritance;
  readonly #inheritedTurn: Promise<EndTurn> | undefined;
  #isLeft = false;
  #hasToldUnknownEnd = false;

  constructor(options: SessionOptions, sessionId: string, volumes: Volumes, locks: AsyncDisposableStack) {
    this.name = options.name;
    this.#options = options;
    this.#sessionId = sessionId;
    this.#volumes = volumes;
    this.#locks = locks;
    this.#inherited = new Inheritance(options);
    this.#turns = new OpenTurns(this.#inherited, (end) => this.#publish(end));
    this.#inheritedTurn = this.#turns.inherited?.ended;
    this.ready = this.#running().then(() => {});
    // whoever does not wait for `ready` learns of the failure from the first turn
    this.ready.catch(() => {});
    const { metrics } = options;
    const { trackio, syncer: state } = volumes;
    if (!metrics || !state) return;
    const events = {
      onSummary: (summary: SyncSummary) => {
        this.#metrics = summary;
        this.#publish({ type: "metrics", ...summary });
      },
      onProblem: (words: string) => this.#notice("warning", words),
    };
    this.#metricsSync = new MetricsSync({ options, metrics, trackio, state }, events, this.ready);
  }

  subscribe(listener: (event: SessionEvent) => void): () => void {
    return this.#listeners.add(listener);
  }

  async runTurn(text: string, turnId?: string): Promise<EndTurn> {
    const turn = this.#turns.begin(text, turnId);
    const refusal = tooLong(text);
    if (refusal) this.#turns.end(turn, "error", refusal.message, tooLongReason);
    // not waited for: the turn can end before there is a sandbox
    else void this.#begin(turn);
    return await turn.ended;
  }

  async #begin(turn: OpenTurn): Promise<void> {
    try {
      this.#turns.keep(turn);
      const running = await this.#running();
      if (this.#options.anthropic.source?.hasChanged()) await this.#renewCredential(running);
      this.#turns.send(turn, this.#notesToAgent, running.link.send);
    } catch (error) {
      if (this.#turns.isOpen(turn)) this.#notice("sandbox_failed", messageOf(error));
      this.#turns.end(turn, "error", messageOf(error));
    }
  }

  setModel(model: string): void {
    if (model === "" || model.length > maxModelLength) {
      this.#notice("warning", `The model was not changed: its name must have 1 to ${maxModelLength} characters`);
      return;
    }
    this.#options = { ...this.#options, model };
    this.#send({ type: "set_model", model });
  }

  interrupt(): void {
    this.#turns.interrupt((message) => this.#send(message));
  }

  async kill(): Promise<void> {
    const running = await this.#start?.catch(() => undefined);
    await running?.agent.terminate();
  }

  inheritedTurn(): Promise<EndTurn> | undefined {
    return this.#inheritedTurn;
  }

  async detach(): Promise<Date> {
    const { provider } = this.#options;
    if (!provider.capabilities.detach) {
      throw cannotBeLeft(provider);
    }
    const running = await this.#running();
    const until = running.agent.endsAt;
    // first, so that nobody takes them for orphans
    this.#inherited.leave(until, [running.agent.id, running.proxy.sandbox.id]);
    this.#isLeft = true;
    await releaseRunning(running, until.getTime() - Date.now());
    return until;
  }

  async spending(): Promise<Spending | undefined> {
    const running = await this.#start?.catch(() => undefined);
    return running && (await spendingOf(this.#options.provider, this.name, running.proxy).catch(() => undefined));
  }

  metrics(): SyncSummary | undefined {
    return this.#metrics;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#dispose();
    await this.#disposed;
  }

  async #dispose(): Promise<void> {
    this.#abort.abort(new SandboxError("The session was closed"));
    const running = await this.#start?.catch(() => undefined);
    if (running && !this.#isLeft) await stopRunning(running);
    await this.#stopped;
    // a turn goes on in sandboxes that were left
    if (!this.#isLeft) this.#turns.fail("the session was closed");
    // after the agent's end, which publishes the last rows
    await this.#metricsSync?.finish();
    if (!this.#isLeft) this.#inherited.end();
    await this.#locks.disposeAsync();
  }

  #running(): Promise<Running> {
    this.#start ??= this.#startAll().catch((error: unknown) => {
      this.#start = undefined;
      throw error;
    });
    return this.#start;
  }

  async #startAll(): Promise<Running> {
    const signal = this.#abort.signal;
    await this.#stopped;
    signal.throwIfAborted();
    const parts: RunningParts = {
      options: this.#options,
      sessionId: this.#sessionId,
      volumes: this.#volumes,
      hidden: this.#hiddenCredentials(),
      onNotice: (notice) => this.#takeNotice(notice),
      onProgress: (words) => this.#notice("progress", words),
      events: {
        onEvent: (event) => this.#take(event),
        onBadLine: (reason) => this.#notice("protocol_error", `The agent sent what is not the protocol: ${reason}`),
        pending: () => this.#turns.unended(),
        onConnection: (isBack) =>
          this.#notice(
            "progress",
            `The connection to the agent is ${isBack ? "back" : "lost; the sandbox goes on, and is sought"}`,
          ),
      },
      signal,
    };
    const adopted = await this.#inherited.adopt(parts);
    if (!adopted) {
      if (this.#inheritedTurn) this.#failInherited();
      if (this.#options.attachOnly) throw notRunning(this.name);
      this.#inherited.begin();
    }
    const running = adopted ?? (await startRunning(parts, onlyNewEvents));
    this.#inherited.whole(running);
    // its process may have died before it had sent them
    if (adopted) for (const message of this.#turns.unended()) running.link.send(message);
    this.#watch(running);
    this.#notice("sandbox_started", `The agent ${adopted ? "goes on" : "runs"} in sandbox ${running.agent.id}`);
    return running;
  }

  /** The sandbox of a turn that ran when no host was there is gone. */
  #failInherited(): void {
    const message = "The agent's sandbox was lost while nobody was attached";
    this.#tellLoss(message);
    this.#turns.failInherited(message);
  }

  #tellLoss(message: string): void {
    const { capabilities } = this.#options.provider;
    this.#notice("sandbox_lost", `${message}. ${lossWords(capabilities)}`);
    this.#notesToAgent.push(noteOfLoss(message, capabilities));
  }

  /** Whichever part ends first takes the others with it. */
  #watch(running: Running): void {
    let isLost = false;
    const lost = (what: string) => (end?: SandboxEnd) => {
      if (isLost || this.#disposed || this.#isLeft) return;
      isLost = true;
      this.#start = undefined;
      const words = end && lastWords(end);
      const message = `The ${what} was lost${end ? `: ${end.message}` : ""}${words ? ` (${words})` : ""}`;
      this.#tellLoss(message);
      this.#stopped = stopRunning(running);
      // now, and not when all has stopped: a turn that comes meanwhile belongs to the next sandbox
      this.#turns.fail(message);
    };
    const afterEnd = (look: () => void) => async () => {
      // a sandbox that ends breaks its link before it says why it ended
      const late = setTimeout(endMs, undefined, { ref: false });
      if (await Promise.race([running.agent.exited, running.proxy.sandbox.exited, late])) return;
      look();
    };
    void running.agent.exited.then(lost("agent's sandbox"));
    void running.proxy.sandbox.exited.then(lost("credential proxy"));
    void running.link.ended.then(afterEnd(lost("connection to the agent")));
  }

  /** All but those that the user wants the agent to have. */
  #hiddenCredentials(): ReadonlyMap<string, Secret> {
    const given = [...(this.#options.dangerouslyGivenToAgent?.values() ?? [])];
    const secrets = { ...proxySecrets(this.#options), ...syncerSecrets(this.#options) };
    const all = [...this.#options.knownCredentials, ...Object.entries(secrets)];
    return new Map(
      all.filter((entry): entry is [string, Secret] => {
        const [, secret] = entry;
        return secret instanceof Secret && !given.some((known) => known.equals(secret));
      }),
    );
  }

  #takeNotice(notice: ProxyNotice): void {
    this.#notice(notice.kind === "budget" ? "budget" : "warning", wordsOf(notice));
    const note = noteToAgent(notice);
    if (note !== undefined) this.#notesToAgent.push(note);
    if (notice.kind === "credential_refused" && notice.name === "anthropic") {
      void this.#start?.then(
        (running) => this.#renewCredential(running),
        () => {},
      );
    }
  }

  /** Hands the proxy the credential that its source holds now, when it is another one. */
  async #renewCredential({ proxy }: Running): Promise<void> {
    const { anthropic } = this.#options;
    const field = anthropic.apiKey ? "apiKey" : "authToken";
    try {
      const value = await anthropic.source?.read();
      const known = anthropic[field];
      if (value === undefined || (known instanceof Secret && value.equals(known))) return;
      await proxy.rotate(field === "apiKey" ? "ANTHROPIC_API_KEY" : "ANTHROPIC_AUTH_TOKEN", value);
      this.#options = { ...this.#options, anthropic: { ...anthropic, [field]: value } };
      this.#notice("credential_replaced", "The proxy uses the new credential");
    } catch (error) {
      this.#notice("warning", `The proxy keeps its credential: ${messageOf(error)}`);
    }
  }

  #take(event: AgentEvent): void {
    const whose = this.#turns.take(event);
    if (event.type === "hello" && event.resumed) {
      this.#notice("session_resumed", `The conversation "${this.name}" continues`);
    }
    if ("turnId" in event && event.turnId?.startsWith("lifetime-")) this.#takeWarning(event);
    else if (whose === "unknown") {
      // once: a process in the sandbox could announce thousands
      if (!this.#hasToldUnknownEnd) {
        this.#notice(
          "protocol_error",
          "The sandbox announced the end of a turn that this client does not know; ignored",
        );
      }
      this.#hasToldUnknownEnd = true;
    } else if (whose === "open" && event.type !== "END_TURN") this.#publish(event);
    if (event.type === "protocol_error") this.#turns.takeProtocolError(event.reason, (message) => this.#send(message));
  }

  /** The daemon's own turn before the sandbox's end: nobody waits for it, and it must not mix with an answer. */
  #takeWarning(event: AgentEvent): void {
    if (event.type !== "END_TURN") return;
    this.#notice(
      "warning",
      `The agent was told that its sandbox ends soon, and says: ${event.text.replace(/\s+/g, " ").slice(0, maxWarningWords)}`,
    );
  }

  /** Nothing, where there is no sandbox. */
  #send(message: HostMessage): void {
    void this.#start?.then(({ link }) => link.send(message)).catch(() => {});
  }

  #notice(kind: Extract<SessionEvent, { type: "host_notice" }>["kind"], message: string): void {
    this.#publish({ type: "host_notice", kind, message: sanitizeText(message) });
  }

  #publish(event: SessionEvent): void {
    this.#listeners.publish(event);
  }
}
