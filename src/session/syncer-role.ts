/** The syncer as a sandbox of its own: it sees the published metrics, read-only, and holds the tokens they leave with. */
import { setTimeout } from "node:timers/promises";
import { SandboxError } from "../errors.ts";
import type { Sandbox, SandboxSpec, Volume } from "../sandbox/provider.ts";
import { sanitizeDeep } from "../sanitize.ts";
import type { SyncSummary } from "../syncer/sync-summary.ts";
import type { SyncerConfig } from "../syncer/syncer-config.ts";
import type { Credential, MetricsAccess, SessionOptions } from "./contract.ts";
import { openControlLink } from "./control-link.ts";
import { nodePath, runtimeFiles, runtimeModule, trustedMachine } from "./runtime-files.ts";

const controlSocket = "/run/modal-sb/control.sock";
/** longest answer of one look, in bytes */
const maxAnswerBytes = 256 * 1024;
/** beyond what a look was given, in milliseconds: node starts, a Space is looked for, files are closed */
const answerMs = 60_000;

export interface SyncerRole {
  sandbox: Sandbox;
  /** Sends what can be sent within the time, and says how it stands then. */
  drain(withinMs: number): Promise<SyncSummary>;
}

export interface SyncerParts {
  options: Pick<SessionOptions, "provider" | "name" | "limits" | "machine" | "stateFolder">;
  metrics: MetricsAccess;
  /** the published copies */
  trackio: Volume;
  /** what has been sent where */
  state: Volume;
}

/** The tokens, by the names under which the syncer finds them. */
export function syncerSecrets({ metrics }: Pick<SessionOptions, "metrics">): Record<string, Credential> {
  return {
    ...(metrics?.hfToken && { HF_TOKEN: metrics.hfToken }),
    ...(metrics?.writeToken && { TRACKIO_WRITE_TOKEN: metrics.writeToken }),
  };
}

export function syncerName(session: string): string {
  return `${session}-syncer`;
}

/**
 * Starts the syncer; `onSummary` gets how it stands, first and whenever that changes. Where volumes must be refreshed, it
 * sleeps, and this process makes it look: nothing else may refresh a volume of Modal.
 */
export async function startSyncerRole(
  parts: SyncerParts,
  onSummary: (summary: SyncSummary) => void,
  signal: AbortSignal,
): Promise<SyncerRole> {
  const { provider, name } = parts.options;
  // one that a process before this one left has nothing that is not on the volumes
  if (provider.capabilities.detach) await (await provider.find(syncerName(name)))?.terminate();
  const sandbox = await provider.create(syncerSpec(parts), { signal });
  if (!provider.capabilities.sharedVolumes) return lookingRole(parts, sandbox, onSummary, signal);
  const { control } = await openControlLink(sandbox, controlSocket, "syncer", (event) => onSummary(take(event)));
  // its end is learned of by itself
  control({ op: "follow" }).then(
    (answer) => onSummary(take(answer)),
    () => {},
  );
  return { sandbox, drain: async (withinMs) => take(await control({ op: "drain", withinMs })) };
}

/** Projects are named by the agent. */
function take(fields: Record<string, unknown>): SyncSummary {
  return sanitizeDeep(fields["summary"] as SyncSummary);
}

function lookingRole(
  { metrics }: SyncerParts,
  sandbox: Sandbox,
  onSummary: (summary: SyncSummary) => void,
  signal: AbortSignal,
): SyncerRole {
  let running: Promise<unknown> = Promise.resolve();
  let told = "";
  // each look is a process of its own, which counts its own rows
  let sentBefore = 0;
  // one at a time: a refresh fails while another look has files open
  const look = (withinMs: number): Promise<SyncSummary> => {
    const next = running.then(async () => {
      await sandbox.refreshVolumes();
      const summary = await lookOnce(sandbox, withinMs);
      sentBefore += summary.sent;
      return { ...summary, sent: sentBefore };
    });
    running = next.catch(() => {});
    return next;
  };
  const tell = (summary: SyncSummary) => {
    const words = JSON.stringify(summary);
    if (words !== told) onSummary(summary);
    told = words;
  };
  const loop = async () => {
    while (!signal.aborted && sandbox.status() === "running") {
      // a look that failed is made again; a sandbox that failed is noticed by its end
      await look(0).then(tell, () => {});
      await setTimeout(metrics.intervalMs, undefined, { signal, ref: false }).catch(() => {});
    }
  };
  void loop();
  return { sandbox, drain: look };
}

async function lookOnce(sandbox: Sandbox, withinMs: number): Promise<SyncSummary> {
  const process = await sandbox.exec([nodePath, runtimeModule("syncer/main")], {
    env: { MODAL_SB_SYNCER_ONCE: String(withinMs) },
  });
  process.stdin.end();
  const [output, words] = [tailOf(process.stdout), tailOf(process.stderr)];
  const timer = globalThis.setTimeout(() => process.kill("SIGKILL"), withinMs + answerMs);
  const { code } = await process.exited;
  clearTimeout(timer);
  const last = (await output).trim().split("\n").at(-1) ?? "";
  if (code !== 0)
    throw new SandboxError(`The syncer failed: ${(await words).trim().split("\n").at(-1) || `code ${code}`}`);
  return take(JSON.parse(last) as Record<string, unknown>);
}

async function tailOf(stream: AsyncIterable<Buffer>): Promise<string> {
  let tail = Buffer.alloc(0);
  for await (const chunk of stream) tail = Buffer.concat([tail, chunk]).subarray(-maxAnswerBytes);
  return tail.toString("utf8");
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
  const { sharedVolumes } = options.provider.capabilities;
  return {
    role: "syncer",
    name: syncerName(options.name),
    command: sharedVolumes ? [nodePath, runtimeModule("syncer/main")] : ["/bin/sleep", "infinity"],
    env: { MODAL_SB_SYNCER: JSON.stringify(config) },
    secrets: syncerSecrets({ metrics }),
    workingDirectory: "/tmp",
    files: runtimeFiles(
      ["syncer", "control-server", "credential-forms", "errors", "sanitize", "secret"],
      [
        ...["@huggingface/hub", "@huggingface/tasks", "@huggingface/blake3-jit", "@huggingface/xetchunk-wasm"],
        "gearhash-jit",
      ],
      options.stateFolder,
    ),
    volumes: [
      { volume: trackio, path: "/trackio", readOnly: true },
      { volume: state, path: "/state" },
    ],
    limits: { ...options.limits, memoryMiB: 1024, processes: 64 },
    egress: { kind: "host", hostnames: destinationHostnames(metrics) },
    ports: [],
    ...trustedMachine(options.machine),
    tags: { session: options.name },
  };
}

/** Where rows can go: the server, or the Hub, its stores and Spaces. */
function destinationHostnames({ server, hubUrl = "https://huggingface.co" }: MetricsAccess): string[] {
  if (server !== undefined) return [new URL(server).hostname];
  return [new URL(hubUrl).hostname, "*.huggingface.co", "*.hf.co", "*.hf.space"];
}
