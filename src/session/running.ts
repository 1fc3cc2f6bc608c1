/** The agent and the proxy of a session as they run: started beside each other, or taken over from a process that left them. */
import { createHash, randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { ModalSbError, messageOf, SandboxError } from "../errors.ts";
import type { PortAddress, Sandbox, SandboxEnd, SandboxSpec, Volume } from "../sandbox/provider.ts";
import { sanitizeText } from "../sanitize.ts";
import type { Secret } from "../secret.ts";
import { forgetAgentHomes } from "./agent-home.ts";
import { type AgentLink, type AgentLinkEvents, attachToAgent } from "./agent-link.ts";
import { agentName, agentSpec, egressOf } from "./agent-role.ts";
import { grantOf } from "./brokered.ts";
import type { SessionOptions } from "./contract.ts";
import { lastWords } from "./last-words.ts";
import { refuseVisibleCredentials } from "./preflight.ts";
import {
  adoptProxyRole,
  type ProxyNotice,
  type ProxyRole,
  proxyAddress,
  proxyAddressAhead,
  proxyName,
  startProxyRole,
} from "./proxy-role.ts";

const helloTimeoutMs = 60_000;
/** a fifth of a second after each other, and what curl takes */
const tunnelTries = 150;
const tunnelMs = 60_000;
/** of the first hold after a takeover; the provider renews its own */
const takenOverMs = 5 * 60_000;
const holdTries = 6;
const holdPauseMs = 2000;
/** how long a sandbox that has ended may need to say so */
const endMs = 3000;
/** for the transcript and the last metrics to reach their volumes; an agent that ends is not waited for */
const shutdownGraceMs = 12_000;

export interface Running {
  proxy: ProxyRole;
  agent: Sandbox;
  link: AgentLink;
}

export interface RunningParts {
  options: SessionOptions;
  sessionId: string;
  volumes: Record<"data" | "app" | "trackio" | "audit", Volume>;
  /** never to be visible to the agent */
  hidden: ReadonlyMap<string, Secret>;
  onNotice: (notice: ProxyNotice) => void;
  onProgress: (words: string) => void;
  events: AgentLinkEvents;
  signal: AbortSignal;
}

/** Starts both; either failure ends the other. `after`: the number of the last event that is known. */
export async function startRunning(parts: RunningParts, after: number): Promise<Running> {
  const { options, volumes, signal, onProgress } = parts;
  const { provider } = options;
  provider.check({ egress: egressOf(options), ...(options.machine && { machine: options.machine }) });
  await using undo = new AsyncDisposableStack();
  const token = randomBytes(32).toString("base64url");
  const specFor = (proxy: PortAddress): SandboxSpec => {
    const { data, app, trackio } = volumes;
    const spec = agentSpec({ options, sessionId: parts.sessionId, token, data, app, trackio, proxy });
    try {
      refuseVisibleCredentials(spec, parts.hidden);
    } catch (error) {
      forgetAgentHomes(options.stateFolder);
      throw error;
    }
    return spec;
  };
  const ahead = proxyAddressAhead(options);
  const early = ahead && specFor(ahead);
  const proxyStart = startProxyRole(options, volumes.audit, parts.onNotice, { signal, onProgress }).then((started) => {
    undo.use(started.sandbox);
    return started;
  });
  const agentStart = (early ? Promise.resolve(early) : proxyStart.then((started) => specFor(proxyAddress(started))))
    .then((spec) => provider.create(spec, { signal, onProgress }))
    .then((started) => undo.use(started));
  // both are settled before an error leaves, so that nothing is made behind its back
  await Promise.allSettled([proxyStart, agentStart]);
  const [proxy, agent] = await Promise.all([proxyStart, agentStart]);
  // beside the daemon's start, which takes longer
  const reached = ahead ? undefined : reachesProxy(agent, proxyAddress(proxy));
  reached?.catch(() => {});
  const { link, hello } = await attach(agent, after, parts.events, provider.capabilities.detach);
  // keys of sandboxes before this one: whoever still has one shall have no use of it
  const revoked = proxy.control({ op: "revoke_all" });
  const served = ahead ? undefined : proxy.control({ op: "serve_at", origin: proxyAddress(proxy).url });
  const granted = proxy.control({
    op: "grant",
    sandboxId: agent.id,
    tokenHash: createHash("sha256").update(token).digest("hex"),
    expiresAt: Date.now() + options.limits.lifetimeMs,
    ...grantOf(options),
  });
  await Promise.all([firstOf(hello, agent, proxy.sandbox, signal), revoked, served, granted, reached]);
  undo.move();
  return { proxy, agent, link };
}

/**
 * What a process before this one left running; undefined when nothing runs any more. `ids` are those that this machine wrote down
 * when the agent had its grant: others, whoever made them, are not believed, and are ended politely. What is whole and does not answer is an
 * error, and goes on: a network may be slow, and a night's work is in there.
 */
export async function adoptRunning(
  parts: RunningParts,
  after: number,
  ids: readonly string[],
): Promise<Running | undefined> {
  const { provider, name, attachOnly = false } = parts.options;
  const found = await Promise.allSettled([agentName(name), proxyName(name)].map((each) => provider.find(each)));
  const [agent, proxy] = found.map((each) => (each.status === "fulfilled" ? each.value : undefined));
  const release = () => Promise.all([agent?.release(), proxy?.release()]);
  const refused = found.find((each) => each.status === "rejected");
  if (refused) {
    await release();
    throw refused.reason;
  }
  if (agent && proxy && [agent, proxy].every(({ id }) => ids.includes(id))) {
    try {
      return await takeOver(parts, agent, proxy, after);
    } catch (error) {
      await release();
      parts.signal.throwIfAborted();
      throw noAnswer(name, messageOf(error));
    }
  }
  if (attachOnly && (agent ?? proxy)) {
    await release();
    const missing = !agent ? "its agent is gone" : !proxy ? "its credential proxy is gone" : undefined;
    throw noAnswer(name, missing ?? "its sandboxes are not those that this machine began");
  }
  await agent?.terminate({ graceMs: shutdownGraceMs });
  await proxy?.terminate({ graceMs: 1000 });
  return undefined;
}

async function takeOver(parts: RunningParts, agent: Sandbox, proxySandbox: Sandbox, after: number): Promise<Running> {
  const proxy = await adoptProxyRole(proxySandbox, parts.onNotice, true);
  const { link, hello } = await attach(agent, after, parts.events, true);
  try {
    await firstOf(hello, agent, proxySandbox, parts.signal);
    // they were held for as long as they were to be left alone
    await Promise.all([agent.hold(takenOverMs, true), proxySandbox.hold(takenOverMs, true)]);
    return { proxy, agent, link };
  } catch (error) {
    link.close();
    proxy.closeLink();
    throw error;
  }
}

function noAnswer(name: string, why: string): SandboxError {
  return new SandboxError(`The session "${name}" runs, and cannot be taken over: ${why}`, {
    hint: `try again; modal-sb stop ${name} ends it, and keeps the conversation`,
  });
}

/** Lets the daemon finish its transcript, ends the grant by ending the proxy, and leaves nothing. */
export async function stopRunning(running: Running): Promise<void> {
  await running.agent.terminate({ graceMs: shutdownGraceMs });
  await running.proxy.sandbox.terminate({ graceMs: 1000 });
}

/** Leaves both running for so long. Throws a SandboxError when they could not be held; they are left all the same. */
export async function releaseRunning({ agent, proxy, link }: Running, ms: number): Promise<void> {
  try {
    await Promise.all([agent, proxy.sandbox].map((sandbox) => holdFirmly(sandbox, ms)));
  } finally {
    link.close();
    proxy.closeLink();
    await Promise.all([agent.release(), proxy.sandbox.release()]);
  }
}

/** A network may be away for a moment, and a night's work depends on it. */
async function holdFirmly(sandbox: Sandbox, ms: number): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await sandbox.hold(ms, true);
    } catch (error) {
      if (attempt === holdTries) {
        throw new SandboxError(
          `The session is left, and could not be held: it ends in some minutes (${messageOf(error)})`,
          {
            hint: "modal-sb attach takes it over again",
            cause: error,
          },
        );
      }
      await pause(attempt * holdPauseMs);
    }
  }
}

function endedWhileStarting(what: string, end: SandboxEnd): SandboxError {
  const words = lastWords(end);
  return new SandboxError(`The ${what} ended while starting: ${end.message}${words ? ` (${words})` : ""}`);
}

/** An address on the network can take a moment to work. Rejects with curl's words when it does not. */
async function reachesProxy(agent: Sandbox, { url }: PortAddress): Promise<void> {
  // each try says why it failed: the last word is heard also when there is no time for all of them
  const script = `for i in $(seq ${tunnelTries}); do
    curl -fsS --max-time 5 -o /dev/null "$1/healthz" 2>&1 && exit 0; sleep 0.2; done; exit 1`;
  // an environment of an earlier agent's making comes first on the sandbox's own path
  const process = await agent.exec(["/bin/sh", "-c", script, "sh", url], {
    env: { PATH: "/usr/bin:/bin" },
    longestMs: 2 * tunnelMs,
  });
  process.stdin.end();
  process.stderr.resume();
  let words = "";
  process.stdout.on("data", (chunk: Buffer) => {
    words = `${words}${chunk.toString("utf8")}`.slice(-500);
  });
  const timer = setTimeout(() => process.kill("SIGKILL"), tunnelMs);
  const late = new Promise<undefined>((resolve) => setTimeout(resolve, tunnelMs, undefined).unref());
  const end = await Promise.race([process.exited, late]);
  clearTimeout(timer);
  if (end?.code === 0) return;
  const gone = await Promise.race([
    agent.exited,
    new Promise<undefined>((resolve) => setTimeout(resolve, endMs, undefined)),
  ]);
  if (gone) throw endedWhileStarting("agent's sandbox", gone);
  const why = sanitizeText(words).trim().split("\n").at(-1) || "nothing was heard of it";
  throw new SandboxError(`The agent's sandbox does not reach the credential proxy: ${why}`, {
    hint: "try again; the provider's network may be in trouble",
  });
}

async function attach(
  agent: Sandbox,
  after: number,
  events: AgentLinkEvents,
  canReopen: boolean,
): Promise<{ link: AgentLink; hello: Promise<void> }> {
  const hello = Promise.withResolvers<void>();
  const onEvent: AgentLinkEvents["onEvent"] = (event) => {
    if (event.type === "hello") hello.resolve();
    events.onEvent(event);
  };
  const link = await attachToAgent(agent, after, { ...events, onEvent }, canReopen);
  return { link, hello: hello.promise };
}

/** Resolves with `hello`; rejects with the reason when a sandbox ended first or nothing came in time. */
async function firstOf(hello: Promise<void>, agent: Sandbox, proxy: Sandbox, signal: AbortSignal): Promise<void> {
  const ended = async (what: string, sandbox: Sandbox) => {
    throw endedWhileStarting(what, await sandbox.exited);
  };
  const timeout = AbortSignal.any([signal, AbortSignal.timeout(helloTimeoutMs)]);
  const late = new Promise<never>((_resolve, reject) => {
    timeout.addEventListener("abort", () => {
      const reason: unknown = timeout.reason;
      const words = `The agent did not answer within ${helloTimeoutMs / 1000} s`;
      reject(reason instanceof ModalSbError ? reason : new SandboxError(words));
    });
  });
  const failures = [ended("agent's sandbox", agent), ended("credential proxy", proxy), late];
  for (const failure of failures) failure.catch(() => {});
  await Promise.race([hello, ...failures]);
}
