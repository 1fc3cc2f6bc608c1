/** Exit codes of the command line; documented in docs/cli.md. */
export const exitCodes = {
  success: 0,
  /** a bug in modal-sb itself */
  internal: 1,
  /** bad flag, argument or configuration */
  usage: 2,
  /** the sandbox could not be made, or died */
  sandbox: 3,
  /** the turn ended with an error */
  agent: 4,
  /** the API refused the credential or the model, or could not be reached */
  upstream: 5,
  /** another process uses the session */
  busy: 6,
  /** a credential would have been visible in the sandbox */
  credentialVisible: 7,
  /** what is left of the session's budget does not pay for the next request */
  budget: 8,
  /** stopped by SIGINT, as shells report it */
  interrupted: 130,
} as const;

interface ErrorOptions {
  /** one imperative line: what to do, with the command to run */
  hint?: string;
  cause?: unknown;
}

/** Base of every error that a user can cause or mend. */
export class ModalSbError extends Error {
  readonly exitCode: number;
  readonly hint: string | undefined;

  constructor(message: string, exitCode: number, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.exitCode = exitCode;
    this.hint = options.hint;
  }
}

/** A bad flag or argument. */
export class UsageError extends ModalSbError {
  constructor(message: string, options?: ErrorOptions) {
    super(message, exitCodes.usage, options);
  }
}

/** A configuration value that cannot be used; the message names file and key. */
export class ConfigError extends ModalSbError {
  constructor(message: string, options?: ErrorOptions) {
    super(message, exitCodes.usage, options);
  }
}

/** A provider could not make or keep a sandbox. */
export class SandboxError extends ModalSbError {
  constructor(message: string, options?: ErrorOptions) {
    super(message, exitCodes.sandbox, options);
  }
}

/** Another process holds the session or the volume. */
export class BusyError extends ModalSbError {
  constructor(message: string, options?: ErrorOptions) {
    super(message, exitCodes.busy, options);
  }
}

/** A credential that the host knows of would be visible to the agent. Never carries its value. */
export class CredentialVisibleError extends ModalSbError {
  constructor(message: string, options?: ErrorOptions) {
    super(message, exitCodes.credentialVisible, options);
  }
}

/** The budget does not pay for a single request. */
export class BudgetError extends ModalSbError {
  constructor(message: string, options?: ErrorOptions) {
    super(message, exitCodes.budget, options);
  }
}

/** The message of any thrown value. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
