/** Sessions with running sandboxes: which there are, and who holds them. */
import { hostname } from "node:os";
import type { Config } from "../config/load.ts";
import { defaults } from "../config/schema.ts";
import { BusyError, messageOf, SandboxError, UsageError } from "../errors.ts";
import type { Provider, Role, Sandbox, SandboxRecord, Volume } from "../sandbox/provider.ts";
import { sanitizeText } from "../sanitize.ts";
import { agentName } from "../session/agent-role.ts";
import { type Detached, readDetached } from "../session/detached.ts";
import { readLive } from "../session/live-file.ts";
import { proxyName } from "../session/proxy-role.ts";
import { checkSessionName } from "../session/session-file.ts";
import { syncerName } from "../session/syncer-role.ts";
import { sessionsByTime } from "./accounts.ts";
import { nearest } from "./near-names.ts";

const nameOf = { agent: agentName, proxy: proxyName, syncer: syncerName } satisfies Record<Role, unknown>;

export interface RunningSession {
  name: string;
  sandboxes: SandboxRecord[];
}

/** By name; sandboxes without a session are not among them. Throws a SandboxError when the provider does not answer. */
export async function runningSessions(provider: Provider): Promise<RunningSession[]> {
  return sessionsOf(await listSandboxes(provider));
}

/** All of this installation, the oldest first. Throws a SandboxError when the provider does not answer. */
export async function listSandboxes(provider: Provider, session?: string): Promise<SandboxRecord[]> {
  try {
    const records = await provider.list(session === undefined ? {} : { session });
    return records.sort((one, other) => one.startedAt.localeCompare(other.startedAt));
  } catch (error) {
    if (error instanceof SandboxError) throw error;
    throw new SandboxError(`The provider ${provider.name} does not say which sandboxes run: ${messageOf(error)}`, {
      hint: "try again; modal-sb doctor says what is wrong",
      cause: error,
    });
  }
}

/** By the session's name on them. Those whose own name does not fit it are left out: it may be cut, or another's. */
export function sessionsOf(records: readonly SandboxRecord[]): RunningSession[] {
  const named = records.filter(({ name, role, tags }) => name === nameOf[role](tags["session"] ?? ""));
  const byName = Map.groupBy(named, ({ tags }) => tags["session"]);
  return [...byName].flatMap(([name, sandboxes]) => (isSessionName(name) ? [{ name, sandboxes }] : []));
}

/**
 * The running session of that name, or the only one there is. Throws a UsageError that says which ones run, and which
 * known one is meant.
 */
export function chooseSession(
  asked: string | undefined,
  running: readonly RunningSession[],
  config: Config,
): RunningSession {
  const names = running.map(({ name }) => name);
  const which = names.length === 0 ? "modal-sb starts one" : `running: ${names.join(", ")}`;
  if (asked === undefined) {
    const [only] = running;
    if (only && running.length === 1) return only;
    if (only) throw new UsageError(`${running.length} sessions are running: say which`, { hint: which });
    throw new UsageError("No session is running", { hint: which });
  }
  const found = running.find(({ name }) => name === asked);
  if (found) return found;
  checkSessionName(asked);
  const known = sessionsByTime(config);
  if (known.includes(asked)) {
    throw new UsageError(`The session "${asked}" is not running`, {
      hint: `${continuing(asked, config)} continues it`,
    });
  }
  const near = nearest(asked, [...new Set([...names, ...known])]);
  throw new UsageError(`There is no session "${asked}"`, {
    hint: near.length === 0 ? which : `did you mean ${near.join(", ")}?`,
  });
}

/** The command that goes on with a session that does not run. */
export function continuing(session: string, { settings: { provider } }: Config): string {
  return `modal-sb${provider === defaults.provider ? "" : ` --on ${provider}`} --session ${session}`;
}

/** A hand on the agent's sandbox of a running session; `chooseSession` says what may be wrong. Release it at the end. */
export async function openAgent(asked: string | undefined, provider: Provider, config: Config): Promise<Sandbox> {
  const { name, sandboxes } = chooseSession(asked, await runningSessions(provider), config);
  const isBegunHere = ({ id }: SandboxRecord) =>
    !provider.capabilities.detach || readLive(config.settings.stateFolder, name)?.sandboxes?.includes(id);
  // tags can be written by whoever may act in the account: files and words go only to what this machine began
  const record = sandboxes.find((each) => each.role === "agent" && isBegunHere(each));
  const agent = record && (await provider.open(record));
  if (agent) return agent;
  throw new UsageError(`The agent of the session "${name}" is not running, or was not begun by this machine`, {
    hint: "modal-sb ls shows what runs; an agent is started with the next message",
  });
}

/** Who stands behind a session's sandboxes. */
export interface Holder {
  /** a living process of this machine holds the session; 0: which one is not known */
  pid?: number;
  detached?: Detached;
  /** why nobody can tell */
  unknown?: string;
}

/**
 * Asks for the lock that a process has on its session for as long as it lives. `keep` gets it where it was free; when
 * undefined it is given back at once.
 */
export async function holderOf(
  { name, sandboxes }: RunningSession,
  provider: Provider,
  stateFolder: string,
  keep?: (lock: Volume) => void,
): Promise<Holder> {
  const owner = sandboxes.find(({ ownerPid }) => ownerPid !== undefined)?.ownerPid;
  if (owner !== undefined) return { pid: owner };
  const elsewhere = sandboxes.map(({ tags }) => tags["host"]).find((host) => host !== undefined && host !== hostname());
  if (elsewhere !== undefined) return { unknown: `it was made on ${sanitizeText(elsewhere)}: ask there` };
  try {
    const lock = await provider.volume(`${name}-data`);
    if (keep) keep(lock);
    else await lock[Symbol.asyncDispose]();
    const detached = readDetached(stateFolder, name);
    return detached ? { detached } : {};
  } catch (error) {
    if (error instanceof BusyError) return { pid: holderPid(error) };
    return { unknown: messageOf(error) };
  }
}

export type Standing =
  | { state: "held"; pid: number }
  | { state: "detached"; until: string }
  | { state: "orphaned"; why: string }
  | { state: "unknown"; why: string };

/** How one sandbox of a session stands. */
export function standingOf(record: SandboxRecord, holder: Holder, now: number): Standing {
  const { pid, detached, unknown } = holder;
  if (unknown !== undefined) return { state: "unknown", why: unknown };
  if (pid !== undefined) return { state: "held", pid };
  if (!detached) return { state: "orphaned", why: "no process has its session any more" };
  if (!detached.sandboxes.includes(record.id))
    return { state: "orphaned", why: "it is not one that was left on purpose" };
  if (Date.parse(detached.until) <= now) return { state: "orphaned", why: `it was left until ${detached.until}` };
  return { state: "detached", until: detached.until };
}

/** What a sandbox has cost by the list price until now, in US dollars; undefined when it has no price. */
export function spentOn({ startedAt, usdPerHour }: SandboxRecord, now: number): number | undefined {
  return usdPerHour === undefined ? undefined : (usdPerHour * Math.max(0, now - Date.parse(startedAt))) / 3_600_000;
}

function isSessionName(name: string | undefined): name is string {
  try {
    checkSessionName(name ?? "");
    return true;
  } catch {
    // a sandbox that no session made
    return false;
  }
}

function holderPid(error: BusyError): number {
  return Number(/by process (\d+)/.exec(error.message)?.[1] ?? 0);
}
