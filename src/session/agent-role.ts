/** What the agent's sandbox is made of. Nothing here may hold a credential: preflight.ts looks at the result. */
import type { EgressPolicy, PortAddress, SandboxSpec, Volume } from "../sandbox/provider.ts";
import { agentHome } from "./agent-home.ts";
import { agentAccess } from "./brokered.ts";
import type { SessionOptions } from "./contract.ts";
import { claudePackage, claudeSdk, nodePath, runtimeFiles, runtimeModule } from "./runtime-files.ts";

export function agentName(session: string): string {
  return `${session}-agent`;
}

export const agentSocket = "/run/modal-sb/agent.sock";

/**
 * Makes the home folder and the Python environment on the data volume: what `python3 -m venv --without-pip --system-site-packages` makes, but
 * without starting Python, so that it is there before the agent. An earlier agent may have put programs there: they are not run here. A Python whose file name has no version makes it itself.
 */
const startScript = `path=$PATH; PATH=\${PATH#/data/venv/bin:}; mkdir -p "$HOME"; venv=/data/venv
if [ ! -e $venv/bin/pip ]; then
  python=$(readlink -f "$(command -v python3)"); version=\${python##*/python}
  case $version in
    3.*[0-9])
      mkdir -p $venv/bin $venv/lib/python$version/site-packages
      ln -sf "$python" $venv/bin/python3; ln -sf python3 $venv/bin/python
      printf 'home = %s\ninclude-system-site-packages = true\nversion = %s\n' "\${python%/*}" $version > $venv/pyvenv.cfg ;;
    *) python3 -m venv --without-pip --system-site-packages $venv ;;
  esac
  printf '#!/bin/sh\nexec /data/venv/bin/python -m pip "$@"\n' > $venv/bin/pip; chmod 755 $venv/bin/pip
fi
PATH=$path
exec "$@"`;

export interface AgentParts {
  options: SessionOptions;
  sessionId: string;
  /** the random half of the sandbox key */
  token: string;
  data: Volume;
  app: Volume;
  trackio: Volume;
  proxy: PortAddress;
}

/** The spec of the agent's sandbox. */
export function agentSpec(parts: AgentParts): SandboxSpec {
  const { options, proxy } = parts;
  const access = agentAccess(options, proxy);
  return {
    role: "agent",
    name: agentName(options.name),
    command: ["/bin/sh", "-c", startScript, "sh", nodePath, runtimeModule("agent/daemon")],
    env: {
      ANTHROPIC_BASE_URL: proxy.url,
      ...(proxy.socketPath !== undefined && { ANTHROPIC_UNIX_SOCKET: proxy.socketPath }),
      MODAL_SB_SANDBOX_TOKEN: parts.token,
      MODAL_SB_AGENT: JSON.stringify({
        sessionId: parts.sessionId,
        socketPath: agentSocket,
        dataFolder: "/data",
        cwd: "/app",
        metricsFolder: "/trackio",
        maxTurns: options.maxTurns,
        lifetimeMs: options.limits.lifetimeMs,
        commitVolumes: !options.provider.capabilities.sharedVolumes,
        keyVariables: access.keyVariables,
        ...(options.model !== undefined && { model: options.model }),
      }),
      ...access.env,
      ...given(options),
      HF_HOME: "/data/hf-cache",
      // the daemon has no use for it, and would take longer to start; claude's tools get it back
      NODE_USE_ENV_PROXY: "",
      // a volume where the provider's take databases: then a sandbox that is lost takes no row with it
      TRACKIO_DIR: options.provider.capabilities.databasesOnVolumes ? "/data/trackio" : "/tmp/trackio",
      TRACKIO_STORAGE_MODE: "sqlite",
      IS_SANDBOX: "1",
    },
    secrets: {},
    workingDirectory: "/app",
    files: [
      ...runtimeFiles(
        ["agent", "protocol", "transfer/inside"],
        ["zod", claudeSdk, claudePackage()],
        options.stateFolder,
      ),
      { hostPath: agentHome(options, proxy.socketPath !== undefined), path: "/app/.claude", copy: true },
      ...access.files,
    ],
    volumes: [
      { volume: parts.data, path: "/data" },
      { volume: parts.app, path: "/app" },
      { volume: parts.trackio, path: "/trackio" },
    ],
    limits: options.limits,
    ...(options.machine && { machine: options.machine }),
    egress: egressOf(options, proxy),
    ports: [],
    tags: { session: options.name },
  };
}

/** Where the agent may connect to; `proxy` is undefined while it has no address yet. */
export function egressOf({ egressHostnames }: SessionOptions, proxy?: PortAddress): EgressPolicy {
  const door = proxy && { proxy };
  if (egressHostnames === "dangerously-allow-all-hostnames") return { kind: egressHostnames, ...door };
  return { kind: "allow", hostnames: egressHostnames, ...door };
}

function given({ dangerouslyGivenToAgent = new Map() }: SessionOptions): Record<string, string> {
  return Object.fromEntries([...dangerouslyGivenToAgent].map(([name, secret]) => [name, secret.reveal()]));
}
