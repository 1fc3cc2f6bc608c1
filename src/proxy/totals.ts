/** What each sandbox has used since the proxy began. */
import type { AuditEntry } from "./audit.ts";

export interface SandboxTotals {
  requests: number;
  /** refused, or broken off */
  refused: number;
  inputTokens: number;
  outputTokens: number;
  cacheReadTokens: number;
  cacheWriteTokens: number;
}

export class Totals {
  readonly #totals = new Map<string, SandboxTotals>();

  add(entry: AuditEntry): void {
    if (entry.sandboxId === null) return;
    const totals = this.of(entry.sandboxId);
    this.#totals.set(entry.sandboxId, totals);
    totals.requests += 1;
    if (entry.reason !== null) totals.refused += 1;
    for (const name of ["inputTokens", "outputTokens", "cacheReadTokens", "cacheWriteTokens"] as const) {
      totals[name] += entry[name];
    }
  }

  of(sandboxId: string): SandboxTotals {
    return (
      this.#totals.get(sandboxId) ?? {
        requests: 0,
        refused: 0,
        inputTokens: 0,
        outputTokens: 0,
        cacheReadTokens: 0,
        cacheWriteTokens: 0,
      }
    );
  }
}
