/** Running sandboxes by session: how long, until when, for how much, and who holds them. */
import { resolve } from "node:path";
import { exitCodes } from "../errors.ts";
import type { Provider, SandboxRecord } from "../sandbox/provider.ts";
import { sanitizeText } from "../sanitize.ts";
import { spendingOf } from "../session/account-spending.ts";
import { readLive } from "../session/live-file.ts";
import { placeWords, whereabouts } from "../session/session-file.ts";
import { sessionsByTime } from "./accounts.ts";
import { table } from "./metrics-words.ts";
import type { Output } from "./output.ts";
import { type Chosen, unlessSilent } from "./providers.ts";
import { holderOf, listSandboxes, type Standing, sessionsOf, spentOn, standingOf } from "./running.ts";
import { dollars, spanWords } from "./spans.ts";

export interface ListRequest {
  json: boolean;
  /** also sessions that do not run */
  all: boolean;
}

interface Row {
  /** undefined: a sandbox that no session made */
  session: string | undefined;
  /** the provider's name; undefined: the session does not run */
  on?: string;
  /** undefined: the session does not run */
  sandbox?: SandboxRecord;
  standing?: Standing;
  /** what the session's model requests have cost; undefined: its ledger is not at hand */
  modelUsd: number | undefined;
}

/** Prints a table with its sums, or a JSON object a line. Throws a SandboxError when the first provider does not answer. */
export async function listSessions(
  { json, all }: ListRequest,
  chosen: readonly Chosen[],
  output: Output,
): Promise<number> {
  const now = Date.now();
  const rows: Row[] = [];
  for (const [index, one] of chosen.entries()) {
    const look = async () => void rows.push(...(await runningRows(one, now)));
    if (index === 0) await look();
    else await unlessSilent(one.config, output, look);
  }
  if (all) rows.push(...(await endedRows(rows, chosen)));
  if (json) for (const row of rows) output.data(`${JSON.stringify(jsonOf(row, now))}\n`);
  else output.data(rows.length === 0 ? emptyWords(chosen) : tableOf(rows, now));
  for (const words of notAsked(chosen)) output.note(output.red(words));
  return exitCodes.success;
}

/** Sessions that may run where nobody was asked: what they cost must not stay unseen. */
function notAsked(chosen: readonly Chosen[]): string[] {
  const [first] = chosen;
  if (!first) return [];
  const { stateFolder } = first.config.settings;
  const asked = new Set(chosen.map(({ provider }) => placeWords(provider.name, provider.place)));
  return sessionsByTime(first.config).flatMap((name) => {
    const where = whereabouts(stateFolder, name);
    if (where === undefined || asked.has(where) || !readLive(stateFolder, name)) return [];
    return [
      `The session "${sanitizeText(name)}" may run on ${where}, which was not asked: use the settings that it began with`,
    ];
  });
}

async function runningRows({ provider, config }: Chosen, now: number): Promise<Row[]> {
  const records = await listSandboxes(provider);
  const rows: Row[] = [];
  const on = provider.name;
  for (const running of sessionsOf(records)) {
    const holder = await holderOf(running, provider, resolve(config.settings.stateFolder));
    const modelUsd = await modelSpending(running.name, provider);
    for (const sandbox of running.sandboxes) {
      rows.push({ session: running.name, on, sandbox, standing: standingOf(sandbox, holder, now), modelUsd });
    }
  }
  const listed = new Set(rows.map(({ sandbox }) => sandbox?.id));
  const others = records.filter(({ id }) => !listed.has(id));
  return [...rows, ...others.map((sandbox) => ({ ...sessionless(sandbox), on }))];
}

async function endedRows(running: readonly Row[], chosen: readonly Chosen[]): Promise<Row[]> {
  const names = new Set(running.map(({ session }) => session));
  const rows: Row[] = [];
  const [first] = chosen;
  for (const session of first ? sessionsByTime(first.config) : []) {
    if (names.has(session)) continue;
    const known = await Promise.all(chosen.map(({ provider }) => modelSpending(session, provider)));
    rows.push({ session, modelUsd: known.find((usd) => usd !== undefined) });
  }
  return rows;
}

function sessionless(sandbox: SandboxRecord): Row {
  const { ownerPid } = sandbox;
  const standing: Standing =
    ownerPid === undefined
      ? { state: "unknown", why: "it is not known which session made it" }
      : { state: "held", pid: ownerPid };
  return { session: undefined, sandbox, standing, modelUsd: undefined };
}

async function modelSpending(session: string, provider: Provider): Promise<number | undefined> {
  // elsewhere the ledger is not on this machine either
  if (!provider.capabilities.sharedVolumes) return undefined;
  const folder = (await provider.peek(`${session}-audit`))?.hostPath;
  return folder === undefined ? undefined : spendingOf(session, folder).usd;
}

function emptyWords(chosen: readonly Chosen[]): string {
  const names = chosen.map(({ provider }) => provider.name).join(", ");
  return `No sandbox is running (${names}). Start one with modal-sb; modal-sb ls --all also lists past sessions.\n`;
}

function jsonOf({ session, on, sandbox, standing, modelUsd }: Row, now: number): object {
  if (!sandbox) return { session, state: "ended", modelUsd };
  const { id, name, role, startedAt, endsAt, gpu, usdPerHour } = sandbox;
  return {
    ...{ session, on, role, id, name, ...(standing ?? { state: "unknown" }) },
    ...{ startedAt, ageSeconds: Math.round((now - Date.parse(startedAt)) / 1000), endsAt, gpu, usdPerHour },
    ...{ spentUsd: spentOn(sandbox, now), modelUsd },
  };
}

/** age, ends in, $/hour, spent, model */
const rightColumns: ReadonlySet<number> = new Set([4, 6, 7, 8, 9]);

function tableOf(rows: readonly Row[], now: number): string {
  const head = ["session", "on", "role", "state", "age", "gpu", "ends in", "$/hour", "spent", "model", "id"];
  const seen = new Set<string | undefined>();
  const cells = rows.map((row) => {
    const { session, on = "-", sandbox, standing, modelUsd } = row;
    // once a session
    const model = seen.has(session) || modelUsd === undefined ? "-" : dollars(modelUsd);
    seen.add(session);
    if (!sandbox) return [session ?? "-", on, "-", "ended", "-", "-", "-", "-", "-", model, "-"];
    const { role, startedAt, gpu = "-", endsAt, usdPerHour, id } = sandbox;
    const endsIn = endsAt === undefined ? "-" : spanWords(Date.parse(endsAt) - now);
    const spent = spentOn(sandbox, now);
    return [
      ...[session ?? "-", on, role, stateWords(standing), spanWords(now - Date.parse(startedAt)), gpu, endsIn],
      ...[usdPerHour, spent].map((usd) => (usd === undefined ? "-" : dollars(usd))),
      ...[model, id],
    ];
  });
  // columns of which nothing is known, such as prices of this machine, are left out
  const told = head.flatMap((_word, column) =>
    column === 0 || cells.some((row) => row[column] !== "-") ? [column] : [],
  );
  const right = new Set(told.flatMap((column, place) => (rightColumns.has(column) ? [place] : [])));
  const shown = [head, ...cells.map((row) => row.map(sanitizeText))].map((row) =>
    told.map((column) => row[column] ?? ""),
  );
  const lines = table(shown, right);
  return `${[...lines, "", sumWords(rows, now)].join("\n")}\n`;
}

function stateWords(standing: Standing | undefined): string {
  if (standing?.state === "held") return standing.pid === 0 ? "in use" : `process ${standing.pid}`;
  return standing?.state ?? "unknown";
}

function sumWords(rows: readonly Row[], now: number): string {
  const sandboxes = rows.flatMap(({ sandbox }) => (sandbox ? [sandbox] : []));
  const sessions = new Map(rows.map(({ session, modelUsd }) => [session, modelUsd]));
  sessions.delete(undefined);
  const known = [...sessions.values()].filter((usd) => usd !== undefined);
  const sum = (numbers: readonly (number | undefined)[]) => numbers.reduce<number>((all, one) => all + (one ?? 0), 0);
  const perHour = sum(sandboxes.map(({ usdPerHour }) => usdPerHour));
  const spent = sum(sandboxes.map((sandbox) => spentOn(sandbox, now)));
  const orphans = rows.filter(({ standing }) => standing?.state === "orphaned").length;
  return [
    `${counted(sandboxes.length, "sandbox", "sandboxes")} of ${counted(sessions.size, "session", "sessions")}`,
    ...(perHour > 0 ? [`${dollars(perHour)} an hour`, `${dollars(spent)} so far (list prices)`] : []),
    ...(known.length > 0 ? [`${dollars(sum(known))} for the model`] : []),
    ...(orphans > 0 ? [`${orphans} orphaned: modal-sb gc`] : []),
  ].join(" · ");
}

function counted(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`;
}
