/** The syncer as a sandbox of its own: it sees the published metrics, read-only, and holds the tokens they leave with. */
import type { Sandbox, SandboxSpec, Volume } from "../sandbox/provider.ts";
import { sanitizeDeep } from "../sanitize.ts";
import type { Secret } from "../secret.ts";
import type { SyncSummary } from "../syncer/sync-summary.ts";
import type { SyncerConfig } from "../syncer/syncer-config.ts";
import type { MetricsAccess, SessionOptions } from "./contract.ts";
import { openControlLink } from "./control-link.ts";
import { nodePath, runtimeFiles, runtimeModule } from "./runtime-files.ts";

const controlSocket = "/run/modal-sb/control.sock";

export interface SyncerRole {
  sandbox: Sandbox;
  /** Sends what can be sent within the time, and says how it stands then. */
  drain(withinMs: number): Promise<SyncSummary>;
}

export interface SyncerParts {
  options: SessionOptions;
  metrics: MetricsAccess;
  /** the published copies */
  trackio: Volume;
  /** what has been sent where */
  state: Volume;
}

/** The tokens, by the names under which the syncer finds them. */
export function syncerSecrets({ metrics }: Pick<SessionOptions, "metrics">): Record<string, Secret> {
  return {
    ...(metrics?.hfToken && { HF_TOKEN: metrics.hfToken }),
    ...(metrics?.writeToken && { TRACKIO_WRITE_TOKEN: metrics.writeToken }),
  };
}

/** Starts the syncer; `onSummary` gets how it stands, first and whenever that changes. */
export async function startSyncerRole(
  parts: SyncerParts,
  onSummary: (summary: SyncSummary) => void,
  signal: AbortSignal,
): Promise<SyncerRole> {
  const sandbox = await parts.options.provider.create(syncerSpec(parts), { signal });
  // projects are named by the agent
  const take = (fields: Record<string, unknown>) => sanitizeDeep(fields["summary"] as SyncSummary);
  const control = await openControlLink(sandbox, controlSocket, "syncer", (event) => onSummary(take(event)));
  // its end is learned of by itself
  control({ op: "follow" }).then(
    (answer) => onSummary(take(answer)),
    () => {},
  );
  return { sandbox, drain: async (withinMs) => take(await control({ op: "drain", withinMs })) };
}

function syncerSpec({ options, metrics, trackio, state }: SyncerParts): SandboxSpec {
  const { hfToken: _hfToken, writeToken: _writeToken, ...rules } = metrics;
  const config: SyncerConfig = {
    ...rules,
    folder: "/trackio",
    access: "published",
    statePath: "/state/watermarks.db",
    credentialsFolder: "/run/secrets",
    controlPath: controlSocket,
  };
  return {
    role: "syncer",
    name: `${options.name}-syncer`,
    command: [nodePath, runtimeModule("syncer/main")],
    env: { MODAL_SB_SYNCER: JSON.stringify(config) },
    secrets: syncerSecrets(options),
    workingDirectory: "/tmp",
    files: runtimeFiles(
      ["syncer", "control-server", "credential-forms", "errors", "sanitize", "secret"],
      ["@huggingface", "gearhash-jit"],
      options.stateFolder,
    ),
    volumes: [
      { volume: trackio, path: "/trackio", readOnly: true },
      { volume: state, path: "/state" },
    ],
    limits: { ...options.limits, memoryMiB: 1024, processes: 64 },
    egress: { kind: "host" },
    ports: [],
    tags: { session: options.name },
  };
}
