/** One sandbox at Modal, as this process holds it: its processes, its lease and its end. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Sandbox as SdkSandbox } from "modal";
import { SandboxError } from "../../errors.ts";
import type { EndReason, ExecOptions, PortAddress, Sandbox, SandboxEnd, SandboxProcess } from "../provider.ts";
import { within } from "./calls.ts";
import { endOf, waitForResult } from "./end.ts";
import { execDetached, execInside } from "./exec.ts";
import { holdCommand, killCommand, mainProcess } from "./launcher.ts";
import { logTail } from "./logs.ts";
import { grpcStatus, modalError, statusOf } from "./modal-error.ts";
import { followOutput, type OutputTail } from "./output-tail.ts";
import { isOlderBackend } from "./sandbox-id.ts";
import type { Account } from "./sdk.ts";
import type { Label } from "./tags.ts";

/** a hold of this process lasts so long, and is renewed so often: what it leaves when it dies idles out soon after */
const leaseMs = 300_000;
const leaseRenewalMs = 120_000;
const answerMs = 60_000;
const reloadMs = 55_000;
/** for Modal to end what it was told to end, and for volumes to be committed */
const endMs = 120_000;
/** the output's way to us after the end */
const outputMs = 3000;
/** the same when only the output says why it ended; a busy host takes long to read it */
const reasonMs = 20_000;
const signalMs = 5000;

export interface HeldSandbox {
  account: Account;
  sdkSandbox: SdkSandbox;
  label: Label;
  addresses: ReadonlyMap<number, PortAddress>;
  /** false: made by another process, whose output was not read from its beginning */
  isNew: boolean;
  onGone(sandbox: ModalSandbox): void;
}

export class ModalSandbox implements Sandbox {
  readonly id: string;
  readonly name: string;
  readonly role: Sandbox["role"];
  readonly tags: Sandbox["tags"];
  readonly startedAt: Date;
  readonly endsAt: Date;
  readonly exited: Promise<SandboxEnd>;
  readonly #held: HeldSandbox;
  readonly #released = new AbortController();
  readonly #lease: NodeJS.Timeout;
  readonly #output: OutputTail | undefined;
  #asked = false;
  #ended = false;

  constructor(held: HeldSandbox) {
    this.#held = held;
    this.id = held.sdkSandbox.sandboxId;
    this.name = held.label.name;
    this.role = held.label.role;
    this.tags = held.label.tags;
    this.startedAt = new Date(held.label.startedAtMs);
    this.endsAt = new Date(held.label.startedAtMs + held.label.lifetimeMs);
    const { client } = held.account;
    this.#output = held.isNew ? followOutput(client, held.sdkSandbox, this.#released.signal) : undefined;
    this.#lease = setInterval(() => void this.hold(leaseMs).catch(() => {}), leaseRenewalMs).unref();
    this.exited = this.#waitForEnd();
  }

  async exec(argv: readonly string[], options: ExecOptions = {}): Promise<SandboxProcess> {
    this.#refuseEnded();
    try {
      return await execInside(this.#held.sdkSandbox, argv, options, this.exited);
    } catch (error) {
      this.#refuseEnded();
      throw error;
    }
  }

  address(port: number): PortAddress {
    const address = this.#held.addresses.get(port);
    if (!address) throw new SandboxError(`The sandbox "${this.name}" serves no port ${port}`);
    return address;
  }

  async refreshVolumes(): Promise<void> {
    const deadline = Date.now() + reloadMs;
    for (let pauseMs = 200; ; pauseMs = Math.min(2 * pauseMs, 3000)) {
      this.#refuseEnded();
      const leftMs = Math.max(deadline - Date.now(), 1000);
      try {
        return await within(leftMs, "to refresh volumes", () =>
          this.#held.sdkSandbox.reloadVolumes({ timeoutMs: leftMs }),
        );
      } catch (error) {
        this.#refuseEnded();
        const known = modalError(error, `refresh the volumes of the sandbox "${this.name}"`);
        if (!isBusy(error)) throw known;
        if (Date.now() + pauseMs >= deadline) {
          throw new SandboxError(known.message, {
            hint: "end the process in the sandbox that has a file open there, or is in a folder there",
            cause: error,
          });
        }
        await sleep(pauseMs);
      }
    }
  }

  async hold(ms: number, isNew = false): Promise<void> {
    this.#refuseEnded();
    // Modal itself ends it: an agent that is root could make the program inside another one
    const seconds = Math.ceil(ms / 1000);
    await execDetached(
      this.#held.sdkSandbox,
      isNew ? holdCommand(seconds) : ["sleep", String(seconds)],
      seconds * 1000,
    );
  }

  status(): "running" | "ended" {
    return this.#ended ? "ended" : "running";
  }

  async terminate({ graceMs = 0 }: { graceMs?: number } = {}): Promise<void> {
    if (this.#ended) return;
    if (this.#released.signal.aborted) throw new SandboxError(`The sandbox "${this.name}" was released`);
    this.#asked = true;
    clearInterval(this.#lease);
    if (graceMs > 0) await this.#askToEnd(graceMs);
    if (!this.#ended) await terminateById(this.#held.account, this.id);
    await within(endMs, `to end the sandbox "${this.name}"`, () => this.exited);
  }

  async release(): Promise<void> {
    if (this.#ended) return;
    clearInterval(this.#lease);
    this.#released.abort();
    this.#held.sdkSandbox.detach();
    this.#held.onGone(this);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#released.signal.aborted) await this.terminate();
  }

  #refuseEnded(): void {
    if (this.#ended) throw new SandboxError(`The sandbox "${this.name}" has ended`);
    if (this.#released.signal.aborted) throw new SandboxError(`The sandbox "${this.name}" was released`);
  }

  async #askToEnd(graceMs: number): Promise<void> {
    // the grace begins when Modal has been asked: the way there is not the process's time
    await within(signalMs, "to signal a process", () =>
      execDetached(this.#held.sdkSandbox, killCommand(mainProcess, "SIGTERM")),
    ).catch(() => {});
    const grace = new AbortController();
    const over = sleep(graceMs, undefined, { signal: grace.signal }).catch(() => {});
    await Promise.race([this.exited, over]);
    grace.abort();
  }

  async #waitForEnd(): Promise<SandboxEnd> {
    const { account, label, sdkSandbox } = this.#held;
    const result = await waitForResult(account.client, this.id, this.#released.signal);
    this.#ended = true;
    clearInterval(this.#lease);
    const end = endOf(result, {
      asked: this.#asked,
      gpu: label.reserved.gpu !== undefined,
      lifetimeMs: label.lifetimeMs,
      memoryMiB: label.reserved.memoryMiB,
    });
    const outputTail = await this.#lastOutput(end.reason);
    this.#released.abort();
    sdkSandbox.detach();
    this.#held.onGone(this);
    return { ...end, outputTail };
  }

  async #lastOutput(reason: EndReason): Promise<string> {
    const { account, sdkSandbox } = this.#held;
    const longestMs = reason === "exited" ? reasonMs : outputMs;
    const isComplete = await Promise.race([this.#output?.complete, sleep(longestMs, false, { ref: false })]);
    const text = this.#output?.text() ?? "";
    if (isComplete || this.#asked) return text;
    // what was read may lack its end, which is what says why
    return (await logTail(account, sdkSandbox.sandboxId).catch(() => undefined)) ?? text;
  }
}

/** Modal ends it at once, if it has not ended. */
export async function terminateById({ client }: Account, sandboxId: string): Promise<void> {
  try {
    await within(answerMs, "to end a sandbox", async () => {
      if (isOlderBackend(sandboxId)) await client.cpClient.sandboxTerminate({ sandboxId });
      else await client.cpClient.sandboxTerminateV2({ sandboxId });
    });
  } catch (error) {
    throw modalError(error, `end the sandbox ${sandboxId}`);
  }
}

/** Modal refuses while a file is open on a volume or a process is in it. */
function isBusy(error: unknown): boolean {
  const words = String((error as { details?: unknown }).details ?? error);
  return statusOf(error) === grpcStatus.failedPrecondition || /busy|open files|in use/i.test(words);
}
