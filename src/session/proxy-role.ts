/** The credential proxy as a sandbox of its own, and the host's hand on its control socket. */
import type { PortAddress, Sandbox, SandboxSpec, Volume } from "../sandbox/provider.ts";
import type { Secret } from "../secret.ts";
import { proxyDoors, proxySecrets, proxyUpstreams } from "./brokered.ts";
import type { SessionOptions } from "./contract.ts";
import { type Control, openControlLink } from "./control-link.ts";
import { nodePath, runtimeFiles, runtimeModule } from "./runtime-files.ts";

const proxyPort = 8080;
const controlSocket = "/run/modal-sb/control.sock";

export interface ProxyRole {
  sandbox: Sandbox;
  control: Control;
  /** Hands over a credential that takes another's place; requests that run keep the old one. */
  rotate(name: string, value: Secret): Promise<void>;
}

/** Where the proxy that will be started serves; undefined when the provider does not know yet. */
export function proxyAddressAhead(options: SessionOptions): PortAddress | undefined {
  return options.provider.addressAhead(proxyName(options), proxyPort);
}

export function proxyAddress(proxy: ProxyRole): PortAddress {
  return proxy.sandbox.address(proxyPort);
}

function proxyName(options: SessionOptions): string {
  return `${options.name}-proxy`;
}

/** What the proxy tells of itself. */
export type ProxyNotice =
  | { kind: "unknown_price" | "credential_refused"; name: string }
  | { kind: "budget"; limit: "usd" | "inputTokens" | "outputTokens"; percent: number; used: number; of: number };

/** Starts the proxy. It answers `control` as soon as it listens; requests wait for it until then. */
export async function startProxyRole(
  options: SessionOptions,
  audit: Volume,
  onNotice: (notice: ProxyNotice) => void,
  signal?: AbortSignal,
): Promise<ProxyRole> {
  const sandbox = await options.provider.create(proxySpec(options, audit), { signal });
  const control = await openControlLink(sandbox, controlSocket, "credential proxy", (event) =>
    onNotice(event as unknown as ProxyNotice),
  );
  // the proxy's end is learned of by itself
  control({ op: "follow", events: ["notice"] }).catch(() => {});
  return {
    sandbox,
    control,
    async rotate(name, value) {
      await control({ op: "rotate", name, value: value.reveal() });
    },
  };
}

function proxySpec(options: SessionOptions, audit: Volume): SandboxSpec {
  return {
    role: "proxy",
    name: proxyName(options),
    command: [nodePath, runtimeModule("proxy/main")],
    env: {
      MODAL_SB_PROXY_CONFIG: JSON.stringify({
        upstreams: proxyUpstreams(options),
        doors: proxyDoors(options, "/run/ports", proxyPort),
        // a provider that tells addresses only later gets its own when it is asked to
        publicOrigin: proxyAddressAhead(options)?.url ?? "",
        controlPath: controlSocket,
        dataFolder: "/audit",
        credentialsFolder: "/run/secrets",
        ...(options.prices && { prices: options.prices }),
        ...(options.pingSeconds !== undefined && { pingSeconds: options.pingSeconds }),
      }),
    },
    secrets: proxySecrets(options),
    workingDirectory: "/tmp",
    files: runtimeFiles(
      ["proxy", "control-server", "errors", "secret", "credential-forms"],
      ["undici"],
      options.stateFolder,
    ),
    volumes: [{ volume: audit, path: "/audit" }],
    limits: { ...options.limits, memoryMiB: 1024, processes: 64 },
    egress: { kind: "host" },
    ports: [proxyPort],
    tags: { session: options.name },
  };
}
