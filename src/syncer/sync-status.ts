/** How a syncer stands. */

export interface ProjectStatus {
  project: string;
  /** null: none is named, or none is allowed */
  destination: string | null;
  /** rows that this syncer has sent */
  sent: number;
  /** about how many rows are yet to be sent */
  waiting: number;
  /** milliseconds since 1970; when nothing was waiting any more. null: not yet */
  syncedAt: number | null;
  /** why it does not go on */
  error: string | null;
  /** rows and files that are left out, in words; the last ones */
  problems: string[];
}

export interface SyncStatus {
  projects: ProjectStatus[];
  /** of the folder and of single files, in words */
  problems: string[];
  bytesThisHour: number;
}

/** Whether there is more to send, and nothing in its way. */
export function isBehind({ projects }: SyncStatus): boolean {
  return projects.some(({ waiting, error }) => waiting > 0 && error === null);
}
