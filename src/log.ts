/** One structured log line: time, component and fields. Never a credential, a header or a body. */
export interface Logger {
  debug(message: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

/** A logger that writes JSON lines through `write`; debug lines only when `verbose`. */
export function createLogger(component: string, write: (line: string) => void, verbose: boolean): Logger {
  const line = (level: string, message: string, fields?: Readonly<Record<string, unknown>>) =>
    write(`${JSON.stringify({ time: new Date().toISOString(), level, component, message, ...fields })}\n`);
  return {
    debug: (message, fields) => {
      if (verbose) line("debug", message, fields);
    },
    warn: (message, fields) => line("warn", message, fields),
  };
}
