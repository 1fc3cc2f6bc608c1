/** What the front ends (REPL, one-shot, library users) see of a session. */
import type { AgentEvent, EndTurn } from "../protocol/messages.ts";
import type { Limits, Machine, Provider, StoredSecret } from "../sandbox/provider.ts";
import type { Secret } from "../secret.ts";
import type { SyncSummary } from "../syncer/sync-summary.ts";
import type { SyncerOptions } from "../syncer/syncer.ts";
import type { Spending } from "./spending.ts";

/** What the host itself reports between the agent's events. */
interface HostNotice {
  type: "host_notice";
  kind:
    | "sandbox_started"
    | "sandbox_lost"
    /** none could be made for a turn; the turn's end says why */
    | "sandbox_failed"
    | "session_resumed"
    | "protocol_error"
    | "budget"
    | "credential_replaced"
    | "progress"
    | "warning";
  /** one sentence for the user */
  message: string;
}

/** How the metrics of the session's trainings are on their way; comes when that changes. */
interface MetricsEvent extends SyncSummary {
  type: "metrics";
}

/** The agent's events with control characters already removed from every string, the host's notices, and metrics. */
export type SessionEvent = AgentEvent | HostNotice | MetricsEvent;

/** Where a credential can be read again. */
interface CredentialSource {
  /** True when it may be another one than was read last; cheap, asked before every turn. */
  hasChanged(): boolean;
  read(): Promise<Secret>;
}

/** A real credential, or where the provider keeps it: the host then never has it. */
export type Credential = Secret | StoredSecret;

interface AnthropicAccess {
  /** exactly one of the two */
  apiKey?: Credential;
  authToken?: Credential;
  /** where the credential comes from, when it can be replaced there while the session runs */
  source?: CredentialSource;
  /** origin of the API, e.g. https://api.anthropic.com */
  origin: string;
  /** model ids, a `*` at the end stands for any ending; undefined: all */
  models?: readonly string[];
  /** highest `max_tokens` of a request; undefined: none */
  maxOutputTokens?: number;
  /** what may reach out of the sandbox through the API, by the names of proxy/anthropic-policy.ts; undefined: nothing */
  allow?: readonly string[];
}

interface GitHubAccess {
  token: Credential;
  /** access by "owner/name" in lower case */
  repositories: Readonly<Record<string, "read" | "write">>;
  /** GraphQL opens whatever the token opens */
  graphql?: boolean;
  origin: string;
  apiOrigin: string;
}

interface HuggingFaceAccess {
  token: Credential;
  /** "owner/name", "datasets/owner/name"; undefined: all that the token may read */
  repositories?: readonly string[];
  origin: string;
}

/** An API of the user's own behind the proxy. */
export interface CustomAccess {
  /** the sandbox asks for `/<name>/…` */
  name: string;
  origin: string;
  credential?: { value: Secret; injection: "x-api-key" | "bearer" | "basic" | `header:${string}` };
  /** a path is exact, or ends with "/*" */
  allow: readonly { methods: readonly string[]; path: string }[];
}

/** Where metrics go, and how often is looked for new ones. */
export interface MetricsAccess extends Omit<SyncerOptions, "folder" | "access" | "statePath" | "hfToken"> {
  hfToken?: Credential;
  /** how to make the first Space when it is missing; undefined: not */
  createSpace?: "private" | "public" | undefined;
  /** from the end of a look to the next, in milliseconds */
  intervalMs: number;
}

/** How much a session may use of the APIs, in all its sandboxes; undefined: without limit. */
interface UseLimits {
  usd?: number;
  inputTokens?: number;
  outputTokens?: number;
  requestsPerMinute?: number;
  concurrentRequests?: number;
}

/** US dollars a million tokens. */
interface ModelPrice {
  input: number;
  output: number;
  cacheRead: number;
  /** kept for five minutes */
  cacheWrite: number;
  /** kept for an hour */
  cacheWriteHour: number;
}

export interface SessionOptions {
  provider: Provider;
  /** conversation's name: letters, digits, `-` and `_`; continues when it exists */
  name: string;
  anthropic: AnthropicAccess;
  github?: GitHubAccess;
  huggingface?: HuggingFaceAccess;
  upstreams?: readonly CustomAccess[];
  /** undefined: metrics stay in the session's volume */
  metrics?: MetricsAccess;
  useLimits?: UseLimits;
  /** by model id, before the proxy's own table */
  prices?: Readonly<Record<string, ModelPrice>>;
  /** seconds of a stream's silence after which the proxy sends a ping; undefined: never */
  pingSeconds?: number;
  /** put into the agent's environment as they are, by name: the agent can read, use and leak them */
  dangerouslyGivenToAgent?: ReadonlyMap<string, Secret>;
  /** undefined: claude's own default */
  model?: string;
  maxTurns: number;
  /** folder that becomes /app/.claude; undefined: the bundled instructions */
  instructions?: string;
  egressHostnames: readonly string[] | "dangerously-allow-all-hostnames";
  limits: Limits;
  /** what the agent runs on; undefined: the provider's own choice, without a GPU */
  machine?: Machine;
  /** only a session that runs already, in detached sandboxes; `ready` rejects when there is none */
  attachOnly?: boolean;
  /** credentials the host knows of by label, e.g. "HF_TOKEN": never allowed to be visible in the sandbox */
  knownCredentials: ReadonlyMap<string, Secret>;
  stateFolder: string;
}

/**
 * Contract: `runTurn` always resolves, with a made-up END_TURN of result `error` when the sandbox was lost; the next
 * turn then starts a new sandbox and continues the conversation. A message over `maxMessageBytes` (8 MiB, counted as JSON) is
 * not sent: its turn ends at once in the same way, with the reason "message_too_long". Turns sent while one runs are queued in order.
 * Disposal leaves nothing running.
 */
export interface Session extends AsyncDisposable {
  readonly name: string;
  /** resolves when the agent said hello and its grant is in place; rejects with a ModalSbError */
  readonly ready: Promise<void>;
  /** Calls `listener` for each event in order, the first one also for those before; returns the function that ends it. */
  subscribe(listener: (event: SessionEvent) => void): () => void;
  /** `turnId`, a new UUID by default, names the turn in its events. */
  runTurn(text: string, turnId?: string): Promise<EndTurn>;
  /** From the next request on, and after restarts. */
  setModel(model: string): void;
  /**
   * Ends the running turn politely, with result `interrupted`; at once when its message waits for a sandbox. Nothing happens
   * when idle.
   */
  interrupt(): void;
  /** Kills the sandbox at once; the running turn ends with an error. */
  kill(): Promise<void>;
  /** The turn that was running when this process took over a detached session; undefined: none. */
  inheritedTurn(): Promise<EndTurn> | undefined;
  /**
   * Leaves the sandboxes running, until `stop`, or the end of their lifetime, which is returned. Metrics wait on their
   * volume meanwhile. Dispose of the session afterwards. Throws a UsageError where sandboxes cannot be left.
   */
  detach(): Promise<Date>;
  /** What it has cost; undefined when it is not running, or does not answer. */
  spending(): Promise<Spending | undefined>;
  /** How the metrics stand; undefined: they go nowhere, or nothing is known yet. */
  metrics(): SyncSummary | undefined;
}
