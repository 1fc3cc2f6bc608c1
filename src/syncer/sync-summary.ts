/** What a user wants to know of a syncer, small enough to be said often. */
import { sanitizeText } from "../sanitize.ts";
import type { SyncStatus } from "./sync-status.ts";

export interface SyncSummary {
  /** rows that this syncer has sent */
  sent: number;
  /** about how many rows are yet to be sent */
  waiting: number;
  /** milliseconds since 1970 at which a project had nothing left to send; null: not yet */
  syncedAt: number | null;
  /** where rows go: Spaces, or a server's address; the first few */
  destinations: string[];
  /** why rows are not going out, in words; the first few */
  errors: string[];
  /** rows and files that are left out, in words: of each project the last few, then files of the folder */
  problems: string[];
}

const maxItems = 5;
const maxWords = 400;

export function summaryOf({ projects, problems }: SyncStatus): SyncSummary {
  const times = projects.flatMap(({ syncedAt }) => (syncedAt === null ? [] : [syncedAt]));
  const sum = (of: (project: SyncStatus["projects"][number]) => number) =>
    projects.reduce((total, project) => total + of(project), 0);
  return {
    sent: sum(({ sent }) => sent),
    waiting: sum(({ waiting }) => waiting),
    syncedAt: times.length > 0 ? Math.max(...times) : null,
    destinations: few(projects.flatMap(({ destination }) => destination ?? [])),
    errors: few(projects.flatMap(({ project, error }) => (error === null ? [] : [`${project}: ${error}`]))),
    problems: few([
      ...projects.flatMap((project) => project.problems.map((words) => `${project.project}: ${words}`)).reverse(),
      ...problems,
    ]),
  };
}

function few(words: readonly string[]): string[] {
  // a file's name may have lines of its own
  const line = (each: string) => sanitizeText(each).replace(/\s+/g, " ").slice(0, maxWords);
  return [...new Set(words)].slice(0, maxItems).map(line);
}
