/** What the front ends (REPL, one-shot, library users) see of a session. */
import type { AgentEvent, EndTurn } from "../protocol/messages.ts";
import type { Limits, Provider } from "../sandbox/provider.ts";
import type { Secret } from "../secret.ts";

/** What the host itself reports between the agent's events. */
interface HostNotice {
  type: "host_notice";
  kind: "sandbox_started" | "sandbox_lost" | "session_resumed" | "protocol_error" | "warning";
  /** one sentence for the user */
  message: string;
}

/** The agent's events with control characters already removed from every string, and the host's notices. */
export type SessionEvent = AgentEvent | HostNotice;

interface AnthropicAccess {
  /** exactly one of the two */
  apiKey?: Secret;
  authToken?: Secret;
  /** origin of the API, e.g. https://api.anthropic.com */
  origin: string;
}

export interface SessionOptions {
  provider: Provider;
  /** conversation's name: letters, digits, `-` and `_`; continues when it exists */
  name: string;
  anthropic: AnthropicAccess;
  /** undefined: claude's own default */
  model?: string;
  maxTurns: number;
  /** folder that becomes /app/.claude; undefined: the bundled instructions */
  instructions?: string;
  egressHostnames: readonly string[] | "dangerously-allow-all-hostnames";
  limits: Limits;
  /** credentials the host knows of by label, e.g. "HF_TOKEN": never allowed to be visible in the sandbox */
  knownCredentials: ReadonlyMap<string, Secret>;
  stateFolder: string;
}

/**
 * Contract: `runTurn` always resolves, with a made-up END_TURN of result `error` when the sandbox was lost; the next
 * turn then starts a new sandbox and continues the conversation. Turns sent while one runs are queued in order.
 * Disposal leaves nothing running.
 */
export interface Session extends AsyncDisposable {
  readonly name: string;
  /** resolves when the agent said hello and its grant is in place; rejects with a ModalSbError */
  readonly ready: Promise<void>;
  /** Calls `listener` for each event in order, from now on; returns the function that ends it. */
  subscribe(listener: (event: SessionEvent) => void): () => void;
  runTurn(text: string): Promise<EndTurn>;
  /** From the next request on, and after restarts. */
  setModel(model: string): void;
  /** Ends the running turn politely; nothing happens when idle. */
  interrupt(): void;
  /** Kills the sandbox at once; the running turn ends with an error. */
  kill(): Promise<void>;
}
