/** What is there, what is missing and what to do; every setting with its origin. Never a secret's value. */
import { anthropicCredential, type Config, type Environment, userFilePath } from "../config/load.ts";
import { settingNames } from "../config/schema.ts";
import { exitCodes, ModalSbError, messageOf } from "../errors.ts";
import type { Provider, Requirement } from "../sandbox/provider.ts";
import { neededSecrets } from "./brokered-access.ts";
import type { Output } from "./output.ts";

const marks = { ok: "ok     ", warning: "warning", missing: "MISSING" } as const;

/** Prints the report as data; exit code 0 when a session could start here, else that of a sandbox failure. */
export async function doctor(
  config: Config,
  environment: Environment,
  provider: Provider,
  home: string,
  output: Output,
): Promise<number> {
  const stored = provider.capabilities.storedSecrets ? neededSecrets(config) : [];
  const requirements = [
    nodeRequirement(),
    ...(await provider.requirements(stored)),
    // one that the provider keeps is among its own
    ...(stored.some(({ key }) => key === "ANTHROPIC_API_KEY") ? [] : [await keyRequirement(config, environment)]),
  ];
  const lines = requirements.flatMap(({ name, state, detail, remedy }) => [
    `${marks[state]}  ${name}: ${detail}`,
    ...(remedy === undefined ? [] : [`         to do: ${remedy.replaceAll("\n", "\n         ")}`]),
  ]);
  const values = settingNames.map((name) => [name, shownValue(config, name), config.origins[name]] as const);
  const width = (column: 0 | 1) => Math.max(...values.map((row) => row[column].length));
  const table = values.map(
    ([name, value, origin]) => `${name.padEnd(width(0))}  ${value.padEnd(Math.min(60, width(1)))}  from ${origin}`,
  );
  const missing = requirements.filter((requirement) => requirement.state === "missing");
  const verdict =
    missing.length === 0 ? "A session can start here." : `${missing.length} to mend before a session can start.`;
  output.data(
    `${[...lines, "", `Settings (flags, MODAL_SB_* variables, modal-sb.json here, ${userFilePath(environment, home)}):`, ...table, "", verdict].join("\n")}\n`,
  );
  return missing.length === 0 ? exitCodes.success : exitCodes.sandbox;
}

function nodeRequirement(): Requirement {
  return { name: "node", state: "ok", detail: process.version };
}

/** Without a key the demo still runs, so this is only a warning. */
async function keyRequirement(config: Config, environment: Environment): Promise<Requirement> {
  const name = "Anthropic credential";
  try {
    return { name, state: "ok", detail: `from ${(await anthropicCredential(config, environment)).origin}` };
  } catch (error) {
    const remedy = error instanceof ModalSbError ? error.hint : undefined;
    return { name, state: "warning", detail: messageOf(error), ...(remedy !== undefined && { remedy }) };
  }
}

function shownValue(config: Config, name: (typeof settingNames)[number]): string {
  const value = config.settings[name];
  if (value === undefined) return "-";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
