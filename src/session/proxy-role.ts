/** The credential proxy as a sandbox of its own, and the host's hand on its control socket. */
import type { CreateOptions, PortAddress, Sandbox, SandboxSpec, Volume } from "../sandbox/provider.ts";
import type { Secret } from "../secret.ts";
import { proxyDoors, proxySecrets, proxyUpstreams, upstreamHostnames } from "./brokered.ts";
import type { SessionOptions } from "./contract.ts";
import { type Control, openControlLink } from "./control-link.ts";
import { nodePath, runtimeFiles, runtimeModule, trustedMachine } from "./runtime-files.ts";

const proxyPort = 8080;
const controlSocket = "/run/modal-sb/control.sock";

export interface ProxyRole {
  sandbox: Sandbox;
  control: Control;
  /** Hands over a credential that takes another's place; requests that run keep the old one. */
  rotate(name: string, value: Secret): Promise<void>;
  /** Ends the connection to the control socket, and not the proxy. */
  closeLink(): void;
}

/** Where the proxy that will be started serves; undefined when the provider does not know yet. */
export function proxyAddressAhead(options: SessionOptions): PortAddress | undefined {
  return options.provider.addressAhead(proxyName(options.name), proxyPort);
}

export function proxyAddress(proxy: ProxyRole): PortAddress {
  return proxy.sandbox.address(proxyPort);
}

export function proxyName(session: string): string {
  return `${session}-proxy`;
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
  create: CreateOptions = {},
): Promise<ProxyRole> {
  const sandbox = await options.provider.create(proxySpec(options, audit), create);
  return await adoptProxyRole(sandbox, onNotice, options.provider.capabilities.detach);
}

/** The role of a proxy that runs already; `canReopen`: a network is between. */
export async function adoptProxyRole(
  sandbox: Sandbox,
  onNotice: (notice: ProxyNotice) => void,
  canReopen: boolean,
): Promise<ProxyRole> {
  const request = { op: "follow", events: ["notice"] };
  const { control, close } = await openControlLink(
    sandbox,
    controlSocket,
    "credential proxy",
    (event) => onNotice(event as unknown as ProxyNotice),
    canReopen ? { request } : undefined,
  );
  // the proxy's end is learned of by itself
  control(request).catch(() => {});
  return {
    sandbox,
    control,
    closeLink: close,
    async rotate(name, value) {
      await control({ op: "rotate", name, value: value.reveal() });
    },
  };
}

function proxySpec(options: SessionOptions, audit: Volume): SandboxSpec {
  return {
    role: "proxy",
    name: proxyName(options.name),
    command: [nodePath, runtimeModule("proxy/main")],
    env: {
      MODAL_SB_PROXY_CONFIG: JSON.stringify({
        upstreams: proxyUpstreams(options),
        doors: proxyDoors(options, proxyPort),
        // a provider that tells addresses only later gets its own when it is asked to
        publicOrigin: proxyAddressAhead(options)?.url ?? "",
        sharedDatabases: options.provider.capabilities.databasesOnVolumes,
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
    egress: { kind: "host", hostnames: upstreamHostnames(options) },
    ports: [proxyPort],
    ...trustedMachine(options.machine),
    tags: { session: options.name },
  };
}
