/** What the host tells the daemon, in the environment variable MODAL_SB_AGENT. */
export interface AgentConfig {
  /** the session's id on the host; its files lie in <dataFolder>/sessions/<sessionId>/ */
  sessionId: string;
  socketPath: string;
  dataFolder: string;
  cwd: string;
  /** the volume that gets copies of trackio's databases */
  metricsFolder: string;
  maxTurns: number;
  /** milliseconds from the daemon's start to the sandbox's certain end; undefined: not known */
  lifetimeMs?: number;
  /** true where what is written to a volume is kept only when it is committed, with `sync <folder>` */
  commitVolumes?: boolean;
  /** environment variables that shall hold the sandbox key, for clients of what the proxy brokers */
  keyVariables?: readonly string[];
  /** undefined: claude's own default */
  model?: string;
  /** undefined: the program that the SDK's platform package brings */
  claudePath?: string;
}

/** Reads the variable. Throws when it is absent or lacks a field: only a wrong host can cause that. */
export function parseAgentConfig(json: string | undefined): AgentConfig {
  const config = JSON.parse(json ?? "null") as AgentConfig | null;
  for (const field of ["sessionId", "socketPath", "dataFolder", "cwd", "metricsFolder", "maxTurns"] as const) {
    if (config?.[field] === undefined) throw new Error(`MODAL_SB_AGENT lacks "${field}"`);
  }
  return config as AgentConfig;
}

/** The folder of this session on the data volume. */
export function sessionFolder(config: AgentConfig): string {
  return `${config.dataFolder}/sessions/${config.sessionId}`;
}
