/** What the tests of this folder share: a network with a world of real servers, and programs run inside sandboxes. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readlinkSync } from "node:fs";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { temporaryFolder } from "../../helpers/temporary-folder.ts";
import { whyNoNamespaces } from "./namespaces.ts";
import { type Network, type SandboxNetwork, startNetwork } from "./network.ts";

/** for every test with sandboxes */
export const options = { skip: whyNoNamespaces() ?? false };

interface TestNetwork extends AsyncDisposable {
  network: Network;
}

/** `hosts`: hostname → what its HTTP server answers, or the origin of one that runs. */
export async function startTestNetwork(hosts: Record<string, RequestListener | string>): Promise<TestNetwork> {
  await using undo = new AsyncDisposableStack();
  const folder = undo.use(await temporaryFolder());
  const world: Record<string, string> = {};
  for (const [hostname, listener] of Object.entries(hosts)) {
    if (typeof listener === "string") {
      world[hostname] = new URL(listener).host;
      continue;
    }
    const server = createServer(listener);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    undo.defer(() => {
      server.close();
      server.closeAllConnections();
    });
    world[hostname] = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }
  const network = undo.use(await startNetwork({ folder: folder.path, world }));
  const all = undo.move();
  return { network, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

/** A listener that answers with its hostname and the Host header it got. */
export function introduces(hostname: string): RequestListener {
  return (request, response) => response.end(`${hostname} was asked for ${request.headers.host}`);
}

export interface Place {
  network: Network;
  sandbox: SandboxNetwork;
}

/** Starts a program in the sandbox's network, with its files and variables bound as the emulator binds them. */
export function spawnInside({ network, sandbox }: Place, command: string[], more: object = {}): ChildProcess {
  const binds = Object.entries({ ...sandbox.files, "/etc/ssl/certs/ca-certificates.crt": network.caBundlePath });
  return spawn(
    "nsenter",
    [
      `--net=${sandbox.namespacePath}`,
      ...["bwrap", ...machine(), "--unshare-pid", "--proc", "/proc", "--die-with-parent"],
      ...binds.flatMap(([inside, outside]) => ["--ro-bind", outside, inside]),
      "--",
      ...command,
    ],
    { env: { PATH: process.env["PATH"], HOME: "/tmp", ...sandbox.environment, ...more } },
  );
}

/**
 * All folders of this machine but /run and /proc. bwrap looks at each mount below a folder that it binds, and fails at
 * one that goes away meanwhile: in /run/netns those of other tests come and go.
 */
function machine(): string[] {
  return readdirSync("/", { withFileTypes: true }).flatMap((entry) => {
    const path = join("/", entry.name);
    if (["run", "proc"].includes(entry.name)) return [];
    return entry.isSymbolicLink() ? ["--symlink", readlinkSync(path), path] : ["--dev-bind", path, path];
  });
}

export interface Outcome {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a program in the sandbox's network to its end. */
export async function runInside(place: Place, command: string[], more: object = {}): Promise<Outcome> {
  const child = spawnInside(place, command, more);
  child.stdin?.end();
  const outcome = { stdout: "", stderr: "" };
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    outcome.stdout += text;
  });
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    outcome.stderr += text;
  });
  const [status] = (await once(child, "close")) as [number | null];
  return { status, ...outcome };
}

/** curl with a limit of time, silent but for errors. */
export function curl(place: Place, ...options: string[]): Promise<Outcome> {
  return runInside(place, ["curl", "-sS", "--max-time", "20", ...options]);
}
