/** Where a sandbox's ports are reached: Modal gives each a public hostname, and takes TLS off before the sandbox. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Sandbox as SdkSandbox } from "modal";
import { SandboxError } from "../../errors.ts";
import type { PortAddress, Sandbox } from "../provider.ts";
import { within } from "./calls.ts";
import { modalError } from "./modal-error.ts";

const answerMs = 60_000;
/** from the start of the main process to the first connection it takes */
const readyMs = 120_000;
const endMs = 5000;

export async function tunnelAddresses(sdkSandbox: SdkSandbox): Promise<Map<number, PortAddress>> {
  try {
    const tunnels = await within(answerMs, "for a sandbox's addresses", () => sdkSandbox.tunnels());
    return new Map(Object.entries(tunnels).map(([port, tunnel]) => [Number(port), { url: tunnel.url }]));
  } catch (error) {
    throw modalError(error, "give the sandbox an address");
  }
}

/** The addresses, when the main process serves the first of `ports`; empty without ports, or when it has ended before. */
export async function readyAddresses(
  sdkSandbox: SdkSandbox,
  sandbox: Sandbox,
  ports: readonly number[],
  signal: AbortSignal | undefined,
): Promise<Map<number, PortAddress>> {
  if (ports.length === 0) return new Map();
  const addresses = await tunnelAddresses(sdkSandbox);
  const missing = ports.find((port) => !addresses.has(port));
  if (missing !== undefined)
    throw new SandboxError(`Modal gave the sandbox "${sandbox.name}" no address for port ${missing}`);
  const aborted = new Promise<never>((_resolve, reject) => {
    signal?.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
  });
  aborted.catch(() => {});
  const ready = within(readyMs + 1000, "whether a sandbox serves", () => sdkSandbox.waitUntilReady(readyMs));
  ready.catch(() => {});
  try {
    await Promise.race([ready, sandbox.exited, aborted]);
  } catch (error) {
    signal?.throwIfAborted();
    // one that has ended cannot be asked: its end may be on its way to us
    await Promise.race([sandbox.exited, sleep(endMs, undefined, { ref: false })]);
    if (sandbox.status() === "running") {
      throw new SandboxError(`The sandbox "${sandbox.name}" did not come to serve port ${ports[0]}`, { cause: error });
    }
  }
  return addresses;
}
