/** What Modal and its SDK say, in words that a user can act on. */
import { ConfigError, ModalSbError, messageOf, SandboxError } from "../../errors.ts";
import { sanitizeText } from "../../sanitize.ts";

/** How an account of Modal is given to this machine. */
export const credentialRemedy =
  "run `modal token new` (of the Python package: pip install modal), or set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET";

/** gRPC's numbers of the states that are told apart */
export const grpcStatus = {
  cancelled: 1,
  deadlineExceeded: 4,
  notFound: 5,
  alreadyExists: 6,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  unavailable: 14,
  unknown: 2,
  internal: 13,
  unauthenticated: 16,
} as const;

const maxWords = 600;

/** `why`: what is wrong with the credentials that this machine has for Modal, or that there are none. */
export function unusableCredentials(why: string): ConfigError {
  return new ConfigError(`There are no usable credentials of Modal: ${why}`, { hint: credentialRemedy });
}

/** gRPC's number of the state that a call ended in; undefined when the error is no call's. */
export function statusOf(error: unknown): number | undefined {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === "number" ? code : undefined;
}

/** By the SDK's name of the class, so that the SDK need not be loaded to ask. */
export function isNamed(
  error: unknown,
  name: "NotFoundError" | "AlreadyExistsError" | "ConflictError" | "ResourceExhaustedError" | "InvalidError",
): boolean {
  return error instanceof Error && error.name === name;
}

export function isNotFound(error: unknown): boolean {
  return isNamed(error, "NotFoundError") || statusOf(error) === grpcStatus.notFound;
}

/** The error for the user. `what` says what was tried, e.g. "make the volume". Errors of ours pass as they are. */
export function modalError(error: unknown, what: string): ModalSbError {
  if (error instanceof ModalSbError) return error;
  const words = wordsOf(error);
  const status = statusOf(error);
  if (status === grpcStatus.unauthenticated || status === grpcStatus.permissionDenied)
    return new ConfigError(`Modal refused the credentials of this machine: ${words}`, { hint: credentialRemedy });
  if (status === grpcStatus.unavailable || status === grpcStatus.deadlineExceeded)
    return new SandboxError(`Modal could not be reached to ${what}: ${words}`, {
      hint: "see that this machine may connect to api.modal.com, and https://status.modal.com",
      cause: error,
    });
  if (status === grpcStatus.resourceExhausted)
    return new SandboxError(`Modal refused to ${what}, a limit of the account is reached: ${words}`, {
      hint: "end sandboxes that are not needed (modal-sb ls, modal-sb gc), or wait a minute",
      cause: error,
    });
  return new SandboxError(`Modal could not ${what}: ${words}`, { cause: error });
}

/** What Modal said, safe to print and not too long. */
export function wordsOf(error: unknown): string {
  const details = (error as { details?: unknown } | undefined)?.details;
  const words = typeof details === "string" && details !== "" ? details : messageOf(error);
  return sanitizeText(words).slice(0, maxWords);
}
