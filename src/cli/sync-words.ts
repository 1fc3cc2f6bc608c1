/** How a session's metrics stand, in words: the status line, and what goes wrong, each once. */
import type { SyncSummary } from "../syncer/sync-summary.ts";
import type { Output } from "./output.ts";

/** of one session: names of files can change for ever */
const maxTold = 40;

/** One line; undefined when there are no metrics yet. `now` in milliseconds since 1970. */
export function syncLine(summary: SyncSummary | undefined, now: number): string | undefined {
  if (!summary) return undefined;
  const { sent, waiting, syncedAt, destinations, errors } = summary;
  if (sent === 0 && waiting === 0 && syncedAt === null && errors.length === 0) return undefined;
  const [destination = "nowhere", ...others] = destinations;
  const where = others.length > 0 ? `${destination} and ${others.length} more` : destination;
  const parts = [
    `metrics → ${where}: ${sent} rows sent`,
    ...(waiting > 0 ? [`about ${waiting} waiting`] : []),
    syncedAt === null ? "not in step yet" : `last in step ${agoWords(now - syncedAt)}`,
    ...(errors.length > 0 ? [`cannot go on: ${errors[0]}`] : []),
  ];
  return parts.join(", ");
}

/** Notes what is new of errors and problems. */
export function problemTeller(output: Output): (summary: SyncSummary) => void {
  const told = new Set<string>();
  return ({ errors, problems }) => {
    for (const words of [...errors, ...problems]) {
      if (told.has(words) || told.size > maxTold) continue;
      told.add(words);
      const note = told.size > maxTold ? "there is more that cannot be sent; it is not listed here" : words;
      output.note(output.red(`metrics: ${note}`));
    }
  };
}

function agoWords(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s ago`;
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min ago` : `${Math.round(minutes / 60)} h ago`;
}
