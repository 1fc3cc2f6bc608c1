/** Volumes at Modal, with the lock of this machine round each: two sessions here do not write to one. */
import { join } from "node:path";
import type { Volume as SdkVolume } from "modal";
import { SandboxError } from "../../errors.ts";
import { openVolume } from "../local/volume.ts";
import type { SandboxSpec, Volume } from "../provider.ts";
import { within } from "./calls.ts";
import type { Installation } from "./installation.ts";
import { isNotFound, modalError } from "./modal-error.ts";
import type { Account } from "./sdk.ts";

const answerMs = 60_000;
/** the kind that commits when a sandbox runs `sync` on it */
const version = 2;

class ModalVolume implements Volume {
  readonly name: string;
  readonly hostPath = undefined;
  readonly sdkVolume: SdkVolume;
  readonly #lock: AsyncDisposable | undefined;

  constructor(name: string, sdkVolume: SdkVolume, lock?: AsyncDisposable) {
    this.name = name;
    this.sdkVolume = sdkVolume;
    this.#lock = lock;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#lock?.[Symbol.asyncDispose]();
  }
}

/** Made when missing. Throws a BusyError when another process of this machine holds it. */
export async function openModalVolume(
  account: Account,
  installation: Installation,
  stateFolder: string,
  name: string,
): Promise<Volume> {
  const lock = openVolume(join(stateFolder, "modal/volumes"), name);
  try {
    const volume = await within(answerMs, "for a volume", () =>
      account.client.volumes.fromName(installation.volumeName(name), { createIfMissing: true, version }),
    );
    return new ModalVolume(name, volume, lock);
  } catch (error) {
    await lock[Symbol.asyncDispose]();
    throw modalError(error, `open the volume "${name}"`);
  }
}

export async function peekModalVolume(
  account: Account,
  installation: Installation,
  name: string,
): Promise<Volume | undefined> {
  try {
    const volume = await within(answerMs, "for a volume", () =>
      account.client.volumes.fromName(installation.volumeName(name)),
    );
    return new ModalVolume(name, volume);
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw modalError(error, `look up the volume "${name}"`);
  }
}

/** The mounts as the SDK wants them: by path. */
export function sdkMounts({ volumes }: Pick<SandboxSpec, "volumes">): Record<string, SdkVolume> {
  return Object.fromEntries(
    volumes.map(({ volume, path, readOnly }) => {
      if (!(volume instanceof ModalVolume)) throw new SandboxError(`The volume "${volume.name}" is not at Modal`);
      return [path, readOnly ? volume.sdkVolume.withMountOptions({ readOnly: true }) : volume.sdkVolume];
    }),
  );
}
