/** What people read of a transfer. Names and codes may come from the sandbox. */
import { CredentialVisibleError, type ModalSbError, SandboxError, UsageError } from "../errors.ts";
import { sanitizeText } from "../sanitize.ts";
import { ReportedFault } from "./far-side.ts";
import type { TransferFault } from "./inside/transfer-fault.ts";

const maxShown = 200;

/** A path of the protocol (latin1) as it is shown. */
export function shownPath(path: string): string {
  const text = sanitizeText(Buffer.from(path, "latin1").toString("utf8")).replaceAll(/[\n\t]/g, "?");
  if (text === "") return ".";
  return text.length > maxShown ? `${text.slice(0, maxShown)}…` : text;
}

const reasons = new Map([
  ["link", "a link"],
  ["pipe", "a pipe"],
  ["socket", "a socket"],
  ["device", "a device"],
  ["gone", "it was gone before its turn"],
  ["partial", "what an unfinished transfer left"],
  ["too deep", "too many folders in each other"],
  ["changed", "it was written to meanwhile"],
  ["checksum", "what came is not what was sent"],
  ["EACCES", "permission denied"],
  ["EPERM", "not permitted"],
  ["ENOENT", "its folder is missing"],
  ["ENOTDIR", "a part of its path is no folder"],
  ["ELOOP", "it is a link"],
  ["EISDIR", "a folder is in its place"],
  ["EFBIG", "larger than files may be there"],
  ["ENAMETOOLONG", "its name is too long here"],
  ["EROFS", "the place is read-only"],
  ["ENOSPC", "no space is left"],
]);

export function reason(code: string): string {
  return (
    reasons.get(code) ??
    sanitizeText(code)
      .replaceAll(/[\n\t]/g, " ")
      .slice(0, 80)
  );
}

/** The places are as the user named them. */
export interface FaultContext {
  direction: "pull" | "push";
  from: string;
  to: string;
}

const goOn = "the same command goes on where it was";

/** A fault as an error for the user. */
export function faultError(fault: TransferFault, context: FaultContext): ModalSbError {
  const { detail } = fault;
  const isPull = context.direction === "pull";
  const [sourceSide, targetSide] = isPull ? ["in the sandbox", "here"] : ["here", "in the sandbox"];
  // the sandbox may speak of its own side only
  const own = isPull ? ["source"] : ["target", "disk"];
  const code = fault instanceof ReportedFault && !own.includes(fault.code) ? "protocol" : fault.code;
  switch (code) {
    case "source":
      return detail === "ENOENT"
        ? new UsageError(`There is no "${shown(context.from)}" ${sourceSide}`)
        : new UsageError(`"${shown(context.from)}" ${sourceSide} cannot be read: ${reason(detail)}`);
    case "target":
      return new UsageError(`"${shown(context.to)}" ${targetSide} cannot be written: ${reason(detail)}`);
    case "entries":
      return new UsageError(`There are more than ${detail} files and folders`, { hint: "transfer a part of them" });
    case "bytes":
      return new UsageError(`There are more than ${detail} bytes`, { hint: "transfer a part of them" });
    case "disk":
      return new UsageError(`There is no space for it ${targetSide}: ${reason(detail)}`, {
        hint: `free some, and run it again: ${goOn}`,
      });
    default:
      return new SandboxError(`The sandbox breaks the rules of a transfer: ${reason(detail)}`, {
        hint: "what has been put in place is complete; look at what the agent has changed in the sandbox",
      });
  }
}

function shown(path: string): string {
  return shownPath(Buffer.from(path).toString("latin1"));
}

export function credentialIn(label: string, path: string): CredentialVisibleError {
  return new CredentialVisibleError(`The credential ${label} is in "${shownPath(path)}", which was to be pushed`, {
    hint: "remove it from there, or push something else",
  });
}
