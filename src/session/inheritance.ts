/**
 * What a process passes on to the next one when the sandboxes of a session outlive it: that the session may be running,
 * which turns were, and until when it was left. Without detached sandboxes nothing is kept, and nothing found.
 */
import { UsageError } from "../errors.ts";
import type { Provider } from "../sandbox/provider.ts";
import type { SessionOptions } from "./contract.ts";
import { clearDetached, writeDetached } from "./detached.ts";
import { clearLive, type LiveSession, type LiveTurn, readLive, writeLive } from "./live-file.ts";
import { adoptRunning, type Running, type RunningParts } from "./running.ts";

/** with this number nothing that was logged before is replayed */
export const onlyNewEvents = Number.MAX_SAFE_INTEGER;

/** Nothing of the session runs any more, and that was wanted: the next process has nothing to look for. */
export function forgetSandboxes(stateFolder: string, name: string): void {
  clearLive(stateFolder, name);
  clearDetached(stateFolder, name);
}

type InheritanceOptions = Pick<SessionOptions, "provider" | "name" | "stateFolder" | "attachOnly">;

export class Inheritance {
  readonly #options: InheritanceOptions;
  /** what a process before this one left */
  #found: LiveSession | undefined;
  /** true when what runs was made or taken over by this process */
  #isOwner = false;
  readonly #own: LiveSession = { startedAt: new Date().toISOString(), turns: [] };

  constructor(options: InheritanceOptions) {
    this.#options = options;
    if (this.#isKept) this.#found = readLive(options.stateFolder, options.name);
    this.#own.turns.push(...this.turns);
  }

  get #isKept(): boolean {
    return this.#options.provider.capabilities.detach;
  }

  /** Turns that had not ended for the process before this one. */
  get turns(): readonly LiveTurn[] {
    return this.#found?.turns ?? [];
  }

  /** Takes over what runs; undefined, with nothing left running, when there is nothing whole. Asked again, undefined. */
  async adopt(parts: RunningParts): Promise<Running | undefined> {
    const found = this.#found;
    if (!found) return undefined;
    const after = Math.min(onlyNewEvents, ...found.turns.map((turn) => turn.after));
    const running = await adoptRunning(parts, after, found.sandboxes ?? []);
    this.#found = undefined;
    // it is held by this process now, or gone
    if (running) clearDetached(this.#options.stateFolder, this.#options.name);
    else forgetSandboxes(this.#options.stateFolder, this.#options.name);
    return running;
  }

  /** Before the first sandbox is made: a process that dies from here on may leave something. */
  begin(): void {
    this.#isOwner = true;
    delete this.#own.sandboxes;
    this.#write();
  }

  /** From now on another process can take the session over. */
  whole({ agent, proxy }: Running): void {
    this.#isOwner = true;
    this.#own.sandboxes = [agent.id, proxy.sandbox.id];
    this.#write();
  }

  note(turn: LiveTurn): void {
    this.#own.turns.push(turn);
    this.#write();
  }

  forget(turnId: string): void {
    const index = this.#own.turns.findIndex((turn) => turn.turnId === turnId);
    if (index === -1) return;
    this.#own.turns.splice(index, 1);
    this.#write();
  }

  /** The sandboxes with these ids are left on purpose. Throws a SandboxError when that cannot be written. */
  leave(until: Date, sandboxes: string[]): void {
    const { stateFolder, name } = this.#options;
    writeDetached(stateFolder, name, { until: until.toISOString(), since: new Date().toISOString(), sandboxes });
  }

  /** Nothing is left of what this process had. */
  end(): void {
    if (this.#isKept && this.#isOwner) forgetSandboxes(this.#options.stateFolder, this.#options.name);
  }

  /** What another process left stays on file until this one has it. */
  #write(): void {
    if (this.#isKept && this.#isOwner) writeLive(this.#options.stateFolder, this.#options.name, this.#own);
  }
}

/** What leaving a session throws where its sandboxes end with this process. */
export function cannotBeLeft({ name }: Pick<Provider, "name">): UsageError {
  return new UsageError(`Sandboxes of the provider "${name}" end with modal-sb`, {
    hint: "--on modal runs them where they can be left",
  });
}

/** What attaching to such a session throws. */
export function notRunning(name: string): UsageError {
  return new UsageError(`The session "${name}" is not running`, {
    hint: `modal-sb ls shows what is; modal-sb --session ${name} continues the conversation in a new sandbox`,
  });
}
