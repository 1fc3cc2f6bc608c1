/** The ways on which rows reach a destination now. */
import type { Backoff } from "./backoff.ts";
import type { Destination } from "./destinations.ts";
import { HubError } from "./hub/hub-error.ts";
import type { Inbox } from "./inbox.ts";
import { inboxRecord } from "./inbox-record.ts";
import type { CountedTable } from "./rows.ts";
import { type Entry, type Refused, sendRows } from "./send-entries.ts";
import { ServerFailure, type TrackioServer } from "./trackio-server.ts";

export interface Ways {
  server: TrackioServer;
  /** undefined: there is none, or it is closed */
  inbox: Inbox | undefined;
  /** false: the server does not answer, and the inbox is the only way */
  isAwake: boolean;
}

/** rows that are older come late: the server would give metrics the time at which it got them, in milliseconds */
const liveMs = 60_000;

/** Undefined: the destination is to be left alone now. Throws a ServerFailure when there is no way. */
export async function waysTo(
  { server, inbox }: Destination,
  backoff: Backoff,
  isForced: boolean,
): Promise<Ways | undefined> {
  const isLeftAlone = Date.now() < backoff.until && !isForced;
  if (isLeftAlone && server.version !== undefined) return undefined;
  try {
    if (!isLeftAlone) {
      if (server.version === undefined) await server.probe();
      return { server, inbox: (await inbox?.isOpen(server.version)) ? inbox : undefined, isAwake: true };
    }
  } catch (error) {
    if (!(error instanceof ServerFailure) || !(await inbox?.isOpen(undefined))) throw error;
    // a Space that does not run answers with whatever Hugging Face says for it
    if (error.kind !== "later" && inbox?.mayRun) throw error;
    backoff.fail(Date.now(), error.retryAfterMs);
  }
  return (await inbox?.isOpen(undefined)) ? { server, inbox, isAwake: false } : undefined;
}

/** Sends rows of a table; returns those that are not taken. `timestamps` of the rows decide the way. */
export async function sendOn(
  { server, inbox, isAwake }: Ways,
  table: CountedTable,
  entries: readonly Entry[],
  timestamps: readonly string[],
  spend: (bytes: number) => void,
): Promise<Refused[]> {
  const send = (some: readonly Entry[]) => sendRows(server, table, some, spend);
  const isLate = timestamps.some((timestamp) => Date.now() - Date.parse(timestamp) > liveMs);
  if (!inbox || (isAwake && !isLate)) return await send(entries);
  const records: string[] = [];
  const others: Entry[] = [];
  for (const entry of entries) {
    const record = inboxRecord(table, entry.json);
    if (record === undefined) others.push(entry);
    else records.push(record);
  }
  try {
    if (records.length > 0) await inbox.put(records);
  } catch (error) {
    if (!(error instanceof HubError)) throw error;
    if (error.isTemporary) throw new ServerFailure("later", error.message);
    inbox.close();
    if (!isAwake) throw new ServerFailure("blocked", error.message);
    return await send(entries);
  }
  const refusedFor = (reason: string) => others.map(({ id }) => ({ id, reason }));
  if (!isAwake) return refusedFor("only a Space that runs can take it");
  try {
    return await send(others);
  } catch (error) {
    // the destination takes rows: it is these that it does not take
    if (records.length > 0 && error instanceof ServerFailure && error.kind === "content")
      return refusedFor(error.message);
    throw error;
  }
}
