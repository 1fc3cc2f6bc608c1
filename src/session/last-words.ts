import type { SandboxEnd } from "../sandbox/provider.ts";
import { sanitizeText } from "../sanitize.ts";

const maxLength = 300;

/** The last line that a main process wrote, without what acts on a terminal: it may be somebody hostile. Empty: none. */
export function lastWords({ outputTail }: Pick<SandboxEnd, "outputTail">): string {
  const words = sanitizeText(outputTail).trim().split("\n").at(-1) ?? "";
  return words.length <= maxLength ? words : `${words.slice(0, maxLength)}…`;
}
