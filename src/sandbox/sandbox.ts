import { UsageError } from "../errors.ts";
import { createLocalProvider } from "./local/local.ts";
import type { Provider } from "./provider.ts";

export interface ProviderOptions {
  /** where volumes live, e.g. ~/.local/state/modal-sb */
  stateFolder: string;
  /** the host's environment: PATH and package index settings are read from it, nothing of it is passed on */
  hostEnvironment: Readonly<Record<string, string | undefined>>;
}

/** The one place that names the providers. Throws a UsageError for a name it does not know. */
export async function createProvider(name: string, options: ProviderOptions): Promise<Provider> {
  if (name === "local") return await createLocalProvider(options);
  throw new UsageError(`Unknown provider "${name}"`, { hint: 'the provider of this version is "local"' });
}
