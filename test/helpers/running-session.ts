/** A whole session for tests: local provider, proxy, agent and claude, with a scripted API behind them. */
import { randomBytes } from "node:crypto";
import type { Script } from "../../src/demo/script.ts";
import { type ScriptedApi, startScriptedApi } from "../../src/demo/scripted-api.ts";
import { echo } from "../../src/demo/scripts/echo.ts";
import type { EndTurn } from "../../src/protocol/messages.ts";
import type { Provider, Sandbox } from "../../src/sandbox/provider.ts";
import { createProvider } from "../../src/sandbox/sandbox.ts";
import { Secret } from "../../src/secret.ts";
import { openSession, type Session, type SessionEvent, type SessionOptions } from "../../src/session/session.ts";
import { testLimits } from "./sandbox-spec.ts";
import { temporaryFolder } from "./temporary-folder.ts";

export interface RunningSession extends AsyncDisposable {
  session: Session;
  api: ScriptedApi;
  provider: Provider;
  /** the real key, which only the proxy holds */
  key: string;
  stateFolder: string;
  events: SessionEvent[];
  /** to open the same session again */
  options: SessionOptions;
  say(text: string): Promise<EndTurn>;
  /** The first event of the type that fits, past or future. */
  waitFor<Type extends SessionEvent["type"]>(
    type: Type,
    fits?: (event: Extract<SessionEvent, { type: Type }>) => boolean,
  ): Promise<Extract<SessionEvent, { type: Type }>>;
  agent(): Promise<Sandbox>;
  proxy(): Promise<Sandbox>;
}

export const testKey = (): string => `sk-ant-test-${randomBytes(24).toString("base64url")}`;

export interface Setting {
  changes?: Partial<SessionOptions>;
  script?: Script;
}

/** Opens it; disposal ends everything. */
export async function runningSession({ changes = {}, script = echo() }: Setting = {}): Promise<RunningSession> {
  const undo = new AsyncDisposableStack();
  const key = testKey();
  const folder = undo.use(await temporaryFolder());
  const api = undo.use(await startScriptedApi({ script, apiKey: key }));
  const provider = undo.use(await createProvider("local", { stateFolder: folder.path, hostEnvironment: process.env }));
  const options: SessionOptions = {
    provider,
    name: `e2e-${process.pid}-${randomBytes(3).toString("hex")}`,
    anthropic: { apiKey: new Secret(key), origin: api.origin },
    maxTurns: 100,
    egressHostnames: [],
    limits: { ...testLimits, memoryMiB: 2048, processes: 256 },
    knownCredentials: new Map(),
    stateFolder: folder.path,
    ...changes,
  };
  const session = undo.use(await openSession(options));
  const events: SessionEvent[] = [];
  session.subscribe((event) => events.push(event));
  const sandbox = async (role: string) => {
    await session.ready;
    const found = await options.provider.find(`${options.name}-${role}`);
    if (!found) throw new Error(`There is no ${role}`);
    return found;
  };
  return {
    session,
    api,
    provider: options.provider,
    key,
    stateFolder: folder.path,
    events,
    options,
    say: (text) => session.runTurn(text),
    waitFor: (type, fits = () => true) =>
      new Promise((resolve) => {
        const fitting = (event: SessionEvent) => event.type === type && fits(event as never);
        const past = events.find(fitting);
        if (past) return resolve(past as never);
        const stop = session.subscribe((event) => {
          if (!fitting(event)) return;
          stop();
          resolve(event as never);
        });
      }),
    agent: () => sandbox("agent"),
    proxy: () => sandbox("proxy"),
    [Symbol.asyncDispose]: () => undo.disposeAsync(),
  };
}
