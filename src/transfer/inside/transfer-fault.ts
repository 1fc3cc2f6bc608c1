/**
 * What ends a transfer as a whole. `protocol`: the other side breaks the rules. `source`, `target`: what was named cannot
 * be used. `entries`, `bytes`: more than was allowed. `disk`: no room for it.
 */
export type FaultCode = "protocol" | "source" | "target" | "entries" | "bytes" | "disk";

export class TransferFault extends Error {
  readonly code: FaultCode;
  /** of the system, e.g. "ENOENT"; the message otherwise */
  readonly detail: string;

  constructor(code: FaultCode, detail: string) {
    super(`${code}: ${detail}`);
    this.name = "TransferFault";
    this.code = code;
    this.detail = detail;
  }
}

/** The system's name of an error such as "ENOENT"; anything else is thrown on. */
export function systemCode(error: unknown): string {
  if (error instanceof Error && "code" in error && typeof error.code === "string") return error.code;
  throw error;
}
