/**
 * `modal-sb sync`: any trackio folder of this machine to a Space or a server, once or for as long as it is let; or what
 * waits of a session.
 */
import { createHash } from "node:crypto";
import { realpathSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout } from "node:timers/promises";
import type { Config, Environment } from "../config/load.ts";
import { exitCodes, UsageError } from "../errors.ts";
import { Secret } from "../secret.ts";
import { syncSession } from "../session/sync-session.ts";
import { type DestinationRules, isSpaceId, isTrackio } from "../syncer/destinations.ts";
import { ensureSpace } from "../syncer/hub/ensure-space.ts";
import { HubError } from "../syncer/hub/hub-error.ts";
import { isBehind, type ProjectStatus, type SyncStatus } from "../syncer/sync-status.ts";
import { Syncer } from "../syncer/syncer.ts";
import { sessionsByTime } from "./accounts.ts";
import { configuredMetrics, huggingFaceToken } from "./brokered-access.ts";
import { configForSession, limitsOf, openProvider } from "./open.ts";
import type { Output } from "./output.ts";

export interface SyncRequest {
  /** of this machine, or a session's name */
  folder: string;
  space: string | undefined;
  createSpace: boolean;
  publicSpace: boolean;
  server: string | undefined;
  once: boolean;
  media: boolean;
  intervalSeconds: string;
  maxMibPerHour: string;
}

/** longest that a last look may take, in milliseconds */
const drainMs = 30_000;

/** Exit code 0 when all that was found has been sent, 5 when the destination did not take it. */
export async function sync(
  request: SyncRequest,
  config: Config,
  environment: Environment,
  output: Output,
  stop: AbortSignal,
): Promise<number> {
  const folder = resolve(request.folder);
  if (sessionsByTime(config).includes(request.folder)) {
    return await syncOfSession(request, configForSession(config, request.folder), environment, output, stop);
  }
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
    throw new UsageError(`There is no folder "${folder}"`, { hint: "trackio's own is ~/.cache/huggingface/trackio" });
  }
  const intervalMs = 1000 * numberOf("--interval", request.intervalSeconds, 1, 30);
  const maxBytesPerHour = 2 ** 20 * numberOf("--max-mib-per-hour", request.maxMibPerHour, 1, 1_000_000);
  const rules = await rulesOf(request, config, environment);
  await findOrMake(request, rules, output);
  // a folder has one place, whatever leads to it
  const name = createHash("sha256").update(realpathSync(folder)).digest("hex").slice(0, 16);
  await using syncer = new Syncer({
    ...{ folder, access: "live", statePath: join(config.settings.stateFolder, "sync", `${name}.db`) },
    ...{ ...rules, maxBytesPerHour, withMedia: request.media },
  });
  const interrupted = new AbortController();
  process.once("SIGINT", () => interrupted.abort());
  const signal = AbortSignal.any([stop, interrupted.signal]);
  const told = new Map<string, string>();
  while (!request.once && !signal.aborted) {
    const status = await syncer.poll();
    tell(status, told, output);
    await setTimeout(isBehind(status) ? 100 : intervalMs, undefined, { signal }).catch(() => {});
  }
  const status = await syncer.drain(request.once ? 0 : Date.now() + drainMs);
  tell(status, told, output);
  stop.throwIfAborted();
  const isDone = status.projects.every(({ waiting, error }) => waiting === 0 && error === null);
  return isDone && status.problems.length === 0 ? exitCodes.success : exitCodes.upstream;
}

/** Sends what a session that no process has left on its volume: by the destination of the configuration, once. */
async function syncOfSession(
  { folder: name, space, server, createSpace }: SyncRequest,
  config: Config,
  environment: Environment,
  output: Output,
  stop: AbortSignal,
): Promise<number> {
  if (space !== undefined || server !== undefined || createSpace) {
    throw new UsageError("A session's metrics go where its settings say", {
      hint: "use --metrics before the command's name",
    });
  }
  await using provider = await openProvider(config, environment);
  const metrics = await configuredMetrics(config, environment, provider.capabilities.storedSecrets);
  const { stateFolder } = config.settings;
  const options = { provider, name, stateFolder, limits: limitsOf(config.settings) };
  const summary = await syncSession({ options, metrics }, stop);
  if (!summary) throw new UsageError(`The session "${name}" has no metrics yet`);
  const { sent, waiting, errors, destinations } = summary;
  output.note(
    `${name} → ${destinations.join(", ") || "nowhere"}: ${sent} rows sent${waiting > 0 ? `, about ${waiting} waiting` : ""}`,
  );
  for (const words of [...errors, ...summary.problems]) output.note(output.red(words));
  return waiting === 0 && errors.length === 0 ? exitCodes.success : exitCodes.upstream;
}

/** Throws a HubError in words when the Space is missing or cannot be used. */
async function findOrMake(
  { space, createSpace, publicSpace }: SyncRequest,
  rules: DestinationRules,
  output: Output,
): Promise<void> {
  if (space === undefined || !rules.hfToken) return;
  try {
    const found = await ensureSpace({
      ...{ spaceId: space, token: rules.hfToken, hubUrl: rules.hubUrl },
      ...(createSpace && { create: publicSpace ? "public" : "private" }),
      answers: () => isTrackio(space, rules),
    });
    if (found === "created") output.note(`made the Space ${space}; it is ready in a few minutes`);
  } catch (error) {
    // a Space that is there may answer while the Hub does not
    if (createSpace || !(error instanceof HubError) || !error.isTemporary) throw error;
    output.note(error.message);
  }
}

async function rulesOf(
  { space, server, createSpace, publicSpace }: SyncRequest,
  config: Config,
  environment: Environment,
): Promise<DestinationRules> {
  if (publicSpace && !createSpace) {
    throw new UsageError("--public-space says how a Space is made", { hint: "pass --create-space with it" });
  }
  if (createSpace && space === undefined) {
    throw new UsageError("--create-space needs a Space's name", { hint: "give it with --space owner/name" });
  }
  if ((space === undefined) === (server === undefined)) {
    throw new UsageError("One destination is needed", { hint: "give --space owner/name, or --server https://…" });
  }
  if (server !== undefined) {
    const url = URL.canParse(server) ? new URL(server) : undefined;
    if (!url || !["http:", "https:"].includes(url.protocol)) throw new UsageError(`"${server}" is no http(s) address`);
    // an argument list can be read by every user of the machine
    if (url.search !== "" || url.username !== "" || url.password !== "") {
      const hint = "give the write token in the variable TRACKIO_WRITE_TOKEN";
      throw new UsageError("--server takes an address without a token", { hint });
    }
    const token = environment["TRACKIO_WRITE_TOKEN"];
    return { server, spaces: [], ...(token && { writeToken: new Secret(token) }) };
  }
  if (!isSpaceId(space ?? "")) throw new UsageError(`"${space}" is no Space`, { hint: "it is owner/name" });
  const hfToken = await huggingFaceToken(config, environment);
  return { spaces: [space ?? ""], hfToken, hubUrl: config.settings.huggingface?.origin };
}

function numberOf(flag: string, word: string, least: number, most: number): number {
  const value = Number(word);
  if (word.trim() !== "" && value >= least && value <= most) return value;
  throw new UsageError(`${flag} takes a number from ${least} to ${most}, not "${word}"`);
}

/** Says what has changed since it was told last. */
function tell(status: SyncStatus, told: Map<string, string>, output: Output): void {
  const say = (key: string, words: string) => {
    if (told.get(key) === words) return;
    told.set(key, words);
    output.note(words);
  };
  for (const project of status.projects) say(project.project, wordsOf(project));
  for (const words of [...status.problems, ...status.projects.flatMap(({ problems }) => problems)]) say(words, words);
}

function wordsOf({ project, destination, sent, waiting, error }: ProjectStatus): string {
  const rows = `${sent} rows sent${waiting > 0 ? `, about ${waiting} waiting` : ""}`;
  return `${project} → ${destination ?? "nowhere"}: ${rows}${error === null ? "" : `; ${error}`}`;
}
