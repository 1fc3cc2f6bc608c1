/**
 * Which providers the commands for running sessions ask. What the user has chosen; without a choice each one that this
 * state folder was used with, so that no sandbox that costs money stays unseen.
 */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Config, Environment } from "../config/load.ts";
import { defaults, type Settings, settings } from "../config/schema.ts";
import { ModalSbError, UsageError } from "../errors.ts";
import type { Provider } from "../sandbox/provider.ts";
import { openProvider } from "./open.ts";
import type { Output } from "./output.ts";
import { runningSessions } from "./running.ts";

/** A provider with the configuration that chooses it. */
export interface Chosen {
  provider: Provider;
  config: Config;
}

/** Opens them. The first must answer; what is wrong with another is noted. Dispose of `undo` at the end. */
export async function openProviders(
  config: Config,
  environment: Environment,
  output: Output,
  undo: AsyncDisposableStack,
): Promise<Chosen[]> {
  const [first, ...others] = namesFor(config).map((name) => withProvider(config, name));
  const chosen: Chosen[] = [{ config, provider: undo.use(await openProvider(first ?? config, environment)) }];
  for (const other of others) {
    await unlessSilent(other, output, async () => {
      chosen.push({ config: other, provider: undo.use(await openProvider(other, environment)) });
    });
  }
  return chosen;
}

/** The one on which the session runs, or with no name the only one; the first when none does, whose words say so. */
export async function providerOfSession(
  session: string | undefined,
  chosen: readonly Chosen[],
  output: Output,
): Promise<Chosen> {
  const [first] = chosen as [Chosen, ...Chosen[]];
  if (chosen.length === 1) return first;
  const found: { chosen: Chosen; names: string[] }[] = [];
  for (const each of chosen) {
    const look = async () => {
      const names = (await runningSessions(each.provider)).map(({ name }) => name);
      if (session === undefined ? names.length > 0 : names.includes(session)) found.push({ chosen: each, names });
    };
    if (each === first) await look();
    else await unlessSilent(each.config, output, look);
    if (session !== undefined && found[0]) return found[0].chosen;
  }
  if (found.length > 1) {
    const words = found.map(({ chosen: { provider }, names }) => `${names.join(", ")} (${provider.name})`);
    throw new UsageError("Several sessions are running: say which", { hint: `running: ${words.join(", ")}` });
  }
  return found[0]?.chosen ?? first;
}

/** A provider that nobody asked for by name, and that does not answer, stops nothing. */
export async function unlessSilent({ settings: { provider } }: Config, output: Output, ask: () => Promise<void>) {
  try {
    await ask();
  } catch (error) {
    if (!(error instanceof ModalSbError)) throw error;
    output.note(output.red(`The provider ${provider} was not asked: ${error.message}`));
  }
}

/** Each provider but the one that is always there keeps its things in a folder of its name. */
function namesFor(config: Config): Settings["provider"][] {
  const { provider, stateFolder } = config.settings;
  if (config.origins.provider !== "default") return [provider];
  const others = settings.provider.options.filter((name) => name !== provider);
  return [
    provider,
    ...others.filter((name) => name === defaults.provider || existsSync(join(resolve(stateFolder), name))),
  ];
}

function withProvider(config: Config, provider: Settings["provider"]): Config {
  return { ...config, settings: { ...config.settings, provider } };
}
