import { UsageError } from "../errors.ts";
import { createLocalProvider } from "./local/local.ts";
import type { ModalOptions } from "./modal/sdk.ts";
import type { Provider } from "./provider.ts";

export type { ModalOptions } from "./modal/sdk.ts";

export interface ProviderOptions {
  /** where volumes live, e.g. ~/.local/state/modal-sb */
  stateFolder: string;
  /** the host's environment: PATH, package index settings and Modal's own are read from it, nothing of it is passed on */
  hostEnvironment: Readonly<Record<string, string | undefined>>;
  /** for the provider "modal" */
  modal?: ModalOptions;
}

const defaultModalOptions: ModalOptions = { app: "modal-sb", creationsPerHour: 60 };

/** The one place that names the providers. Throws a UsageError for a name it does not know. */
export async function createProvider(name: string, options: ProviderOptions): Promise<Provider> {
  if (name === "local") return await createLocalProvider(options);
  if (name === "modal") {
    // loaded for those who use it: the SDK takes its time
    const { createModalProvider } = await import("./modal/modal.ts");
    return await createModalProvider({ ...options, modal: options.modal ?? defaultModalOptions });
  }
  throw new UsageError(`Unknown provider "${name}"`, { hint: 'the providers are "local" and "modal"' });
}
