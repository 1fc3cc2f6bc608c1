/** The first metric of a new Space: a dashboard without any shows nothing that says that it works. */

/** in the bucket; the importer takes it when the Space starts, and removes it */
export const seedPath = "trackio/inbox/modal-sb-welcome/00000000.jsonl";

/** A project that no user has: its name is ours. The row has one name, so that importing it twice changes nothing. */
export function seedRecord(spaceId: string, now: Date): string {
  const record = {
    v: 1,
    kind: "metric",
    project: "modal-sb-welcome",
    run: "hello",
    run_id: "modal-sb-welcome",
    metrics: { hello: 1 },
    step: 0,
    timestamp: now.toISOString(),
    config: { space: spaceId, note: "This project shows that the Space works. Delete it whenever you like." },
    log_id: "modal-sb-welcome-0",
  };
  return `${JSON.stringify(record)}\n`;
}
