/**
 * One conversation, start to finish. The proxy and the agent start together; a lost sandbox ends the running turns and
 * is replaced when the next turn comes. The conversation itself lies on the data volume.
 */
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { ModalSbError, messageOf, SandboxError } from "../errors.ts";
import type { AgentEvent, EndTurn } from "../protocol/messages.ts";
import type { PortAddress, Sandbox, Volume } from "../sandbox/provider.ts";
import type { Secret } from "../secret.ts";
import type { SyncSummary } from "../syncer/sync-summary.ts";
import { type AgentLink, attachToAgent } from "./agent-link.ts";
import { agentSpec } from "./agent-role.ts";
import { grantOf, proxySecrets } from "./brokered.ts";
import type { Session, SessionEvent, SessionOptions } from "./contract.ts";
import { MetricsSync } from "./metrics-sync.ts";
import { refuseVisibleCredentials } from "./preflight.ts";
import { noteToAgent, wordsOf } from "./proxy-notices.ts";
import { type ProxyNotice, type ProxyRole, proxyAddress, proxyAddressAhead, startProxyRole } from "./proxy-role.ts";
import { checkSessionName, sessionIdOf } from "./session-file.ts";
import { syncerSecrets } from "./syncer-role.ts";

export type { Session, SessionEvent, SessionOptions } from "./contract.ts";

/** what was logged before belongs to turns that have ended for this client */
const onlyNewEvents = Number.MAX_SAFE_INTEGER;
const helloTimeoutMs = 60_000;
/** for the transcript and the last metrics to reach their volumes; an agent that ends is not waited for */
const shutdownGraceMs = 12_000;

type Volumes = Record<"data" | "app" | "trackio" | "audit", Volume> & {
  /** what the syncer remembers; undefined: there is none */
  syncer: Volume | undefined;
};

interface OpenTurn {
  nonce: string;
  text: string;
  startedAt: number;
  resolve: (end: EndTurn) => void;
}

interface Running {
  proxy: ProxyRole;
  agent: Sandbox;
  link: AgentLink;
}

/** Opens a session and begins to start it; see `ready`. A bad name, a busy or unwritable session throws at once. */
export async function openSession(options: SessionOptions): Promise<Session> {
  checkSessionName(options.name);
  await using undo = new AsyncDisposableStack();
  const volumes: Volumes = {
    data: undo.use(await options.provider.volume(`${options.name}-data`)),
    app: undo.use(await options.provider.volume(`${options.name}-app`)),
    trackio: undo.use(await options.provider.volume(`${options.name}-trackio`)),
    audit: undo.use(await options.provider.volume(`${options.name}-audit`)),
    syncer: options.metrics && undo.use(await options.provider.volume(`${options.name}-syncer`)),
  };
  return new RunningSession(options, sessionIdOf(options.stateFolder, options.name), volumes, undo.move());
}

class RunningSession implements Session {
  readonly name: string;
  readonly ready: Promise<void>;
  #options: SessionOptions;
  readonly #sessionId: string;
  readonly #volumes: Volumes;
  readonly #locks: AsyncDisposableStack;
  readonly #abort = new AbortController();
  readonly #listeners = new Set<(event: SessionEvent) => void>();
  readonly #turns = new Map<string, OpenTurn>();
  /** the start under way or done; undefined when a sandbox was lost and no turn has asked for a new one */
  #start: Promise<Running> | undefined;
  /** the end of the sandboxes that were lost: their names and volumes are free then */
  #stopped: Promise<void> = Promise.resolve();
  #lastSeq = 0;
  /** told with the next message */
  readonly #notesToAgent: string[] = [];
  readonly #metricsSync: MetricsSync | undefined;
  #metrics: SyncSummary | undefined;
  #disposed: Promise<void> | undefined;

  constructor(options: SessionOptions, sessionId: string, volumes: Volumes, locks: AsyncDisposableStack) {
    this.name = options.name;
    this.#options = options;
    this.#sessionId = sessionId;
    this.#volumes = volumes;
    this.#locks = locks;
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
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async runTurn(text: string): Promise<EndTurn> {
    const turnId = randomUUID();
    const { promise, resolve } = Promise.withResolvers<EndTurn>();
    const turn: OpenTurn = { nonce: randomBytes(16).toString("hex"), text, startedAt: Date.now(), resolve };
    this.#turns.set(turnId, turn);
    try {
      const running = await this.#running();
      if (this.#options.anthropic.source?.hasChanged()) await this.#renewCredential(running);
      const noted = [...this.#notesToAgent.splice(0), text].join("\n\n");
      if (this.#turns.has(turnId)) running.link.send({ type: "user", turnId, nonce: turn.nonce, text: noted });
    } catch (error) {
      this.#endTurn(turnId, turn, messageOf(error));
    }
    return await promise;
  }

  setModel(model: string): void {
    this.#options = { ...this.#options, model };
    void this.#start?.then(({ link }) => link.send({ type: "set_model", model })).catch(() => {});
  }

  interrupt(): void {
    void this.#start?.then(({ link }) => link.send({ type: "interrupt" })).catch(() => {});
  }

  async kill(): Promise<void> {
    const running = await this.#start?.catch(() => undefined);
    await running?.agent.terminate();
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
    if (running) await stop(running);
    await this.#stopped;
    this.#failTurns("the session was closed");
    // after the agent's end, which publishes the last rows
    await this.#metricsSync?.finish();
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
    await using undo = new AsyncDisposableStack();
    const token = randomBytes(32).toString("base64url");
    const specFor = (proxy: PortAddress) => {
      const { data, app, trackio } = this.#volumes;
      const spec = agentSpec({ options: this.#options, sessionId: this.#sessionId, token, data, app, trackio, proxy });
      refuseVisibleCredentials(spec, this.#hiddenCredentials());
      return spec;
    };
    const ahead = proxyAddressAhead(this.#options);
    const early = ahead && specFor(ahead);
    const onNotice = (notice: ProxyNotice) => this.#takeNotice(notice);
    const proxyStart = startProxyRole(this.#options, this.#volumes.audit, onNotice, signal).then((started) => {
      undo.use(started.sandbox);
      return started;
    });
    const agentStart = (early ? Promise.resolve(early) : proxyStart.then((started) => specFor(proxyAddress(started))))
      .then((spec) => this.#options.provider.create(spec, { signal }))
      .then((started) => undo.use(started));
    // both are settled before an error leaves, so that nothing is made behind its back
    await Promise.allSettled([proxyStart, agentStart]);
    const [proxy, agent] = await Promise.all([proxyStart, agentStart]);
    const hello = Promise.withResolvers<void>();
    const link = await attachToAgent(agent, onlyNewEvents, {
      onEvent: (event) => {
        if (event.type === "hello") hello.resolve();
        this.#take(event);
      },
      onBadLine: (reason) => this.#notice("protocol_error", `The agent sent what is not the protocol: ${reason}`),
    });
    // keys of sandboxes before this one: whoever still has one shall have no use of it
    const revoked = proxy.control({ op: "revoke_all" });
    const granted = proxy.control({
      op: "grant",
      sandboxId: agent.id,
      tokenHash: createHash("sha256").update(token).digest("hex"),
      expiresAt: Date.now() + this.#options.limits.lifetimeMs,
      ...grantOf(this.#options),
    });
    await Promise.all([firstOf(hello.promise, agent, proxy.sandbox, signal), revoked, granted]);
    undo.move();
    const running = { proxy, agent, link };
    this.#watch(running);
    this.#notice("sandbox_started", `The agent runs in sandbox ${agent.id}`);
    return running;
  }

  /** Whichever part ends first takes the others with it. */
  #watch(running: Running): void {
    let isLost = false;
    const lost = (what: string) => (end?: { message: string }) => {
      if (isLost || this.#disposed) return;
      isLost = true;
      this.#start = undefined;
      const message = `The ${what} was lost${end ? `: ${end.message}` : ""}`;
      this.#notice("sandbox_lost", `${message}. The conversation is kept; the next turn continues it in a new sandbox`);
      this.#stopped = stop(running);
      // now, and not when all has stopped: a turn that comes meanwhile belongs to the next sandbox
      this.#failTurns(message);
    };
    void running.agent.exited.then(lost("agent's sandbox"));
    void running.proxy.sandbox.exited.then(lost("credential proxy"));
    void running.link.ended.then(() => lost("connection to the agent")());
  }

  /** All but those that the user wants the agent to have. */
  #hiddenCredentials(): ReadonlyMap<string, Secret> {
    const given = [...(this.#options.dangerouslyGivenToAgent?.values() ?? [])];
    const secrets = { ...proxySecrets(this.#options), ...syncerSecrets(this.#options) };
    const all = [...this.#options.knownCredentials, ...Object.entries(secrets)];
    return new Map(all.filter(([, secret]) => !given.some((known) => known.equals(secret))));
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
      if (value === undefined || value.equals(anthropic[field])) return;
      await proxy.rotate(field === "apiKey" ? "ANTHROPIC_API_KEY" : "ANTHROPIC_AUTH_TOKEN", value);
      this.#options = { ...this.#options, anthropic: { ...anthropic, [field]: value } };
      this.#notice("credential_replaced", "The proxy uses the new credential");
    } catch (error) {
      this.#notice("warning", `The proxy keeps its credential: ${messageOf(error)}`);
    }
  }

  #take(event: AgentEvent): void {
    if (event.type === "hello") {
      this.#lastSeq = event.seq;
      if (event.resumed) this.#notice("session_resumed", `The conversation "${this.name}" continues`);
    } else if (event.seq > this.#lastSeq) {
      this.#lastSeq = event.seq;
    }
    if (event.type === "END_TURN") this.#takeEnd(event);
    else this.#publish(event);
  }

  /** Only the daemon knows the nonce of a running turn. */
  #takeEnd(event: EndTurn): void {
    const turn = this.#turns.get(event.turnId);
    if (!turn || turn.nonce !== event.nonce) {
      this.#notice("protocol_error", "The end of a turn was announced that this client does not know; ignored");
      return;
    }
    this.#turns.delete(event.turnId);
    this.#publish(event);
    turn.resolve(event);
  }

  #failTurns(message: string): void {
    for (const [turnId, turn] of this.#turns) this.#endTurn(turnId, turn, message);
  }

  /** Ends a turn that the agent can no longer end. */
  #endTurn(turnId: string, turn: OpenTurn, message: string): void {
    if (!this.#turns.delete(turnId)) return;
    const end: EndTurn = {
      seq: this.#lastSeq,
      type: "END_TURN",
      turnId,
      nonce: turn.nonce,
      result: "error",
      text: "",
      error: { message, apiStatus: null },
      usage: { inputTokens: 0, outputTokens: 0, cacheReadTokens: 0, cacheWriteTokens: 0 },
      costUsd: 0,
      durationMs: Date.now() - turn.startedAt,
    };
    this.#publish(end);
    turn.resolve(end);
  }

  #notice(kind: Extract<SessionEvent, { type: "host_notice" }>["kind"], message: string): void {
    this.#publish({ type: "host_notice", kind, message });
  }

  #publish(event: SessionEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
}

/** Lets the daemon finish its transcript, ends the grant by ending the proxy, and leaves nothing. */
async function stop(running: Running): Promise<void> {
  await running.agent.terminate({ graceMs: shutdownGraceMs });
  await running.proxy.sandbox.terminate({ graceMs: 1000 });
}

/** Resolves with `hello`; rejects with the reason when a sandbox ended first or nothing came in time. */
async function firstOf(hello: Promise<void>, agent: Sandbox, proxy: Sandbox, signal: AbortSignal): Promise<void> {
  const ended = async (what: string, sandbox: Sandbox) => {
    const end = await sandbox.exited;
    const words = end.outputTail.trim().split("\n").at(-1);
    throw new SandboxError(`The ${what} ended while starting: ${end.message}${words ? ` (${words})` : ""}`);
  };
  const timeout = AbortSignal.any([signal, AbortSignal.timeout(helloTimeoutMs)]);
  const late = new Promise<never>((_resolve, reject) => {
    timeout.addEventListener("abort", () => {
      const reason: unknown = timeout.reason;
      reject(reason instanceof ModalSbError ? reason : new SandboxError("The agent did not answer within 60 s"));
    });
  });
  const failures = [ended("agent's sandbox", agent), ended("credential proxy", proxy), late];
  for (const failure of failures) failure.catch(() => {});
  await Promise.race([hello, ...failures]);
}
