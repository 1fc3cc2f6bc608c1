/** What the host tells the proxy, in the environment variable MODAL_SB_PROXY_CONFIG; credentials come as files. */
export interface ProxyConfig {
  upstreams: { anthropic: { origin: string } };
  listenPath: string;
  controlPath: string;
  auditPath: string;
  credentialsFolder: string;
}

/** Reads the variable. Throws when it lacks a field: only a wrong host can cause that. */
export function parseProxyConfig(json: string | undefined): ProxyConfig {
  const config = JSON.parse(json ?? "null") as ProxyConfig | null;
  for (const field of ["upstreams", "listenPath", "controlPath", "auditPath", "credentialsFolder"] as const) {
    if (config?.[field] === undefined) throw new Error(`MODAL_SB_PROXY_CONFIG lacks "${field}"`);
  }
  return config as ProxyConfig;
}

/** Throws when the process could show its memory or trust any server. */
export function refuseUnsafeProcess(
  environment: Readonly<Record<string, string | undefined>>,
  execArgv: readonly string[],
): void {
  if (environment["NODE_TLS_REJECT_UNAUTHORIZED"] === "0") {
    throw new Error("NODE_TLS_REJECT_UNAUTHORIZED=0 would send the credential to anyone");
  }
  if (environment["NODE_DEBUG"]) throw new Error("NODE_DEBUG would print headers");
  const options = [...execArgv, ...(environment["NODE_OPTIONS"] ?? "").split(/\s+/)];
  if (options.some((option) => option.startsWith("--inspect"))) {
    throw new Error("--inspect would open the proxy's memory");
  }
}
