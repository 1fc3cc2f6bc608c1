/** The one place where an error becomes words and an exit code. */
import { exitCodes, ModalSbError, messageOf } from "../errors.ts";
import { sanitizeText } from "../sanitize.ts";

export interface FormattedError {
  text: string;
  exitCode: number;
}

/** `verbose` adds the stack. An error that is not a ModalSbError is a bug of ours, and says so. */
export function formatError(error: unknown, verbose: boolean): FormattedError {
  const known = error instanceof ModalSbError;
  const lines = [`error: ${messageOf(error)}`];
  if (known && error.hint) lines.push("", `hint: ${error.hint}`);
  if (!known) lines.push("", "hint: this is a bug in modal-sb; run again with --verbose and report it");
  if (verbose && error instanceof Error) lines.push("", error.stack ?? "");
  return { text: sanitizeText(lines.join("\n")), exitCode: known ? error.exitCode : exitCodes.internal };
}
