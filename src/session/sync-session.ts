/** Sends what waits on the volume of a session that no process has: one that was left running, or has ended. */
import type { SyncSummary } from "../syncer/sync-summary.ts";
import { type SyncerParts, startSyncerRole } from "./syncer-role.ts";

/** for rows that were published, and not those still in the agent's sandbox */
const withinMs = 60_000;

/**
 * Starts a syncer, sends what can be sent within a minute, and ends it; undefined: the session has no metrics. Throws a
 * BusyError when a process has the session: its own syncer sends them.
 */
export async function syncSession(
  { options, metrics }: Omit<SyncerParts, "trackio" | "state">,
  signal: AbortSignal,
): Promise<SyncSummary | undefined> {
  const { provider, name } = options;
  const trackio = await provider.peek(`${name}-trackio`);
  if (!trackio) return undefined;
  await using state = await provider.volume(`${name}-syncer`);
  const role = await startSyncerRole({ options, metrics, trackio, state }, () => {}, signal);
  try {
    return await role.drain(withinMs);
  } finally {
    await role.sandbox.terminate({ graceMs: 1000 });
  }
}
