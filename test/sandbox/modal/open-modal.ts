/** The provider `modal` on an emulator, with a state folder of its own. */
import type { TestContext } from "node:test";
import type { ModalOptions } from "../../../src/sandbox/modal/sdk.ts";
import type { Provider } from "../../../src/sandbox/provider.ts";
import { createProvider } from "../../../src/sandbox/sandbox.ts";
import { temporaryFolder } from "../../helpers/temporary-folder.ts";
import { type Emulator, type EmulatorOptions, startEmulator, whyNot } from "../../modal-emulator/emulator.ts";

export interface Scene extends AsyncDisposable {
  emulator: Emulator;
  provider: Provider;
  stateFolder: string;
  /** another process of the same installation, as far as Modal can tell */
  another(options?: Partial<ModalOptions>, stateFolder?: string): Promise<Provider>;
}

export async function openScene(
  options: EmulatorOptions = {},
  modalOptions: Partial<ModalOptions> = {},
): Promise<Scene> {
  const parts = new AsyncDisposableStack();
  await using undo = new AsyncDisposableStack();
  undo.use(parts);
  const folder = parts.use(await temporaryFolder());
  const emulator = parts.use(await startEmulator(options));
  const another = async (changes: Partial<ModalOptions> = {}, stateFolder = folder.path) =>
    parts.use(
      await createProvider("modal", {
        stateFolder,
        hostEnvironment: { ...process.env, ...emulator.environment },
        modal: { app: "modal-sb", creationsPerHour: 60, ...modalOptions, ...changes },
      }),
    );
  const provider = await another();
  undo.move();
  return { emulator, provider, stateFolder: folder.path, another, [Symbol.asyncDispose]: () => parts.disposeAsync() };
}

/** Skips the test where the emulator cannot run, and says why. */
export async function needsEmulator(context: TestContext): Promise<boolean> {
  const reason = await whyNot();
  if (reason !== undefined) context.skip(reason);
  return reason === undefined;
}

/** A main process that serves port 8080. */
export const serverCommand = {
  command: ["/agent/bin/node", "-e", "require('http').createServer((q, r) => r.end('served')).listen(8080, '0.0.0.0')"],
};
