import { randomUUID } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { messageOf, SandboxError, UsageError } from "../errors.ts";
import type { Provider } from "../sandbox/provider.ts";

/** Throws a UsageError for a name that cannot be a folder's and a sandbox's. */
export function checkSessionName(name: string): void {
  if (/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/.test(name)) return;
  throw new UsageError(`Bad session name "${name}"`, {
    hint: "use up to 64 letters, digits, dashes and underscores, beginning with a letter or a digit",
  });
}

/** The provider whose volumes hold the session; undefined when it is not known. */
export function providerOf(stateFolder: string, name: string): string | undefined {
  const session = readSession(join(stateFolder, "sessions", `${name}.json`));
  // the first sessions had no choice
  return session && (session.provider ?? "local");
}

/**
 * The id of the session called `name`: kept on the host since its first start, because the agent can write to /data. `provider` is
 * kept for a session that begins.
 */
export function sessionIdOf(stateFolder: string, name: string, provider: Pick<Provider, "name" | "place">): string {
  const folder = join(stateFolder, "sessions");
  const path = join(folder, `${name}.json`);
  const known = readSession(path);
  if (known) return known.sessionId;
  const { name: providerName, place } = provider;
  const session = { sessionId: randomUUID(), createdAt: new Date().toISOString(), provider: providerName, place };
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    writeFileSync(`${path}.new`, JSON.stringify(session), { mode: 0o600, flush: true });
    renameSync(`${path}.new`, path);
  } catch (error) {
    throw new SandboxError(`Cannot write "${path}": ${messageOf(error)}`, {
      hint: "choose another place with XDG_STATE_HOME or the stateFolder setting",
      cause: error,
    });
  }
  return session.sessionId;
}

/** Where the session's volumes are, in words: "modal (other)"; undefined when it is not known. */
export function whereabouts(stateFolder: string, name: string): string | undefined {
  const session = readSession(join(stateFolder, "sessions", `${name}.json`));
  return session && placeWords(session.provider ?? "local", session.place ?? "");
}

export function placeWords(provider: string, place: string): string {
  return place === "" ? provider : `${provider} (${place})`;
}

/**
 * Throws a UsageError for a session that began with another provider, or elsewhere in it: its volumes are there, and perhaps
 * sandboxes that run, and here it would be another session of the same name.
 */
export function refuseElsewhere(stateFolder: string, name: string, provider: Pick<Provider, "name" | "place">): void {
  const known = readSession(join(stateFolder, "sessions", `${name}.json`));
  if (!known) return;
  const { provider: providerName = "local", place = "" } = known;
  if (providerName === provider.name && place === provider.place) return;
  throw new UsageError(
    `The session "${name}" began on ${placeWords(providerName, place)}, and this is ${placeWords(provider.name, provider.place)}`,
    {
      hint: "use the settings that it began with, or another name: modal-sb doctor shows where each setting comes from",
    },
  );
}

interface KnownSession {
  sessionId: string;
  provider?: string;
  place?: string;
}

function readSession(path: string): KnownSession | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    // a session that was never started
    return undefined;
  }
  try {
    return JSON.parse(text) as KnownSession;
  } catch (error) {
    throw new SandboxError(`The session file "${path}" is damaged: ${messageOf(error)}`, {
      hint: "remove it to start the session anew",
      cause: error,
    });
  }
}
