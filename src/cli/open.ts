/** From settings to an open session. */
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { knownCredentials } from "../config/known-credentials.ts";
import type { Config, Environment } from "../config/load.ts";
import { settings as schema } from "../config/schema.ts";
import { UsageError } from "../errors.ts";
import type { Limits, Machine, Provider } from "../sandbox/provider.ts";
import { createProvider } from "../sandbox/sandbox.ts";
import { openSession, type Session, type SessionOptions } from "../session/session.ts";
import { checkSessionName, providerOf } from "../session/session-file.ts";
import { brokeredAccess } from "./brokered-access.ts";
import { instructionsFolder, tellOfInstructions } from "./instructions.ts";

const providerNames = schema.provider.options;

export function openProvider(config: Config, environment: Environment): Promise<Provider> {
  const { provider, stateFolder, modalApp, modalEnvironment, creationsPerHour } = config.settings;
  return createProvider(provider, {
    stateFolder: resolve(stateFolder),
    hostEnvironment: environment,
    modal: {
      app: modalApp,
      creationsPerHour,
      ...(modalEnvironment !== undefined && { environment: modalEnvironment }),
    },
  });
}

/**
 * The configuration for a session that may have begun elsewhere: it goes on where its volumes are. Throws a UsageError when the
 * user has asked for another provider.
 */
export function configForSession(config: Config, session: string | undefined): Config {
  const { settings, origins } = config;
  if (session !== undefined) checkSessionName(session);
  const known = session === undefined ? undefined : providerOf(resolve(settings.stateFolder), session);
  if (known === undefined || known === settings.provider) return config;
  if (origins.provider !== "default") {
    throw new UsageError(
      `The session "${session}" is one of the provider "${known}", and ${origins.provider} asks for "${settings.provider}"`,
      {
        hint: `--on ${known}, or another name for a new session`,
      },
    );
  }
  const provider = providerNames.find((name) => name === known);
  if (provider === undefined)
    throw new UsageError(`The session "${session}" is one of the unknown provider "${known}"`);
  return { settings: { ...settings, provider }, origins: { ...origins, provider: `the session "${session}"` } };
}

export interface OpenOptions {
  config: Config;
  environment: Environment;
  provider: Provider;
  name: string;
  /** only a session that runs already */
  attachOnly?: boolean;
  /** takes what the user should know of the agent's instructions */
  note?: (text: string) => void;
}

/** Opens the session called `name`. Throws a ConfigError when the instructions cannot be taken. */
export async function openConfiguredSession(options: OpenOptions): Promise<Session> {
  const { config, environment, provider, name, note } = options;
  const { settings } = config;
  if (note) tellOfInstructions(config, note);
  const sessionOptions: SessionOptions = {
    provider,
    name,
    ...(await brokeredAccess(config, environment, provider.capabilities.storedSecrets)),
    ...(settings.model !== undefined && { model: settings.model }),
    maxTurns: settings.maxTurns,
    ...(settings.instructions !== undefined && { instructions: instructionsFolder(config) }),
    egressHostnames: hostnamesOf(settings.egress),
    limits: lifetimeWithin(limitsOf(settings), provider),
    ...machineOf(settings, provider),
    ...(options.attachOnly && { attachOnly: true }),
    knownCredentials: knownCredentials(environment, homedir()),
    stateFolder: resolve(settings.stateFolder),
  };
  return await openSession(sessionOptions);
}

export function limitsOf(settings: Config["settings"]): Limits {
  const { memoryMiB, processes, fileSizeMiB, lifetimeMinutes } = settings;
  return { memoryMiB, processes, fileSizeMiB, lifetimeMs: lifetimeMinutes * 60_000 };
}

function lifetimeWithin(
  limits: Limits,
  { capabilities: { maxLifetimeMs = Number.POSITIVE_INFINITY } }: Provider,
): Limits {
  return { ...limits, lifetimeMs: Math.min(limits.lifetimeMs, maxLifetimeMs) };
}

/** What was asked for; a provider that lets nothing be chosen still gets the GPUs, to refuse them. */
function machineOf(
  { gpu = [], cpuCores, regions, maxWaitMinutes }: Config["settings"],
  provider: Provider,
): { machine?: Machine } {
  if (gpu.length === 0 && !provider.capabilities.detach) return {};
  return {
    machine: {
      gpus: gpu,
      maxWaitMs: maxWaitMinutes * 60_000,
      ...(cpuCores !== undefined && { cpuCores }),
      ...(regions && { regions }),
    },
  };
}

/** A name that no session has: the time and a few random letters. */
export function freshSessionName(stateFolder: string, now: Date): string {
  const time = now.toISOString().slice(0, 16).replace("T", "-").replace(":", "");
  for (;;) {
    const name = `${time}-${Math.random().toString(36).slice(2, 6)}`;
    if (!existsSync(join(stateFolder, "sessions", `${name}.json`))) return name;
  }
}

function hostnamesOf(egress: Config["settings"]["egress"]): SessionOptions["egressHostnames"] {
  if (egress === "deny-all") return [];
  return egress === "dangerously-allow-all-hostnames" ? egress : egress.allow;
}
