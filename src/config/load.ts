/**
 * Settings from flags, the environment, the project's file, the user's file and the defaults; the first that has a value
 * wins. The only file that reads the environment of the command line.
 */
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import type { z } from "zod";
import { ConfigError, messageOf } from "../errors.ts";
import type { Secret } from "../secret.ts";
import { CredentialSource, type SourceDescription } from "./credential-source.ts";
import { defaults, type SettingName, type Settings, settingNames, settings, userOnly, variableOf } from "./schema.ts";

const projectFileName = "modal-sb.json";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface Config {
  settings: Settings;
  /** where each value comes from, e.g. "--model", "MODAL_SB_MODEL", a file's path or "default" */
  origins: Record<SettingName, string>;
}

export interface ConfigSources {
  flags: Partial<Record<SettingName, unknown>>;
  environment: Environment;
  /** folder whose modal-sb.json is read */
  projectFolder: string;
  home: string;
}

/** This process's own sources. */
export function hostSources(flags: ConfigSources["flags"]): ConfigSources {
  return { flags, environment: process.env, projectFolder: process.cwd(), home: homedir() };
}

interface Layer {
  values: Readonly<Record<string, unknown>>;
  originOf: (name: SettingName) => string;
}

/** Throws a ConfigError that names the file, variable or flag, the setting and the reason. */
export function loadConfig(sources: ConfigSources): Config {
  const { environment, home } = sources;
  const layers = [
    { values: sources.flags, originOf: flagOf },
    environmentLayer(environment),
    projectLayer(join(sources.projectFolder, projectFileName)),
    fileLayer(userFilePath(environment, home)),
    {
      values: {
        ...defaults,
        stateFolder: join(environment["XDG_STATE_HOME"] || join(home, ".local/state"), "modal-sb"),
      },
      originOf: () => "default",
    },
  ];
  const found: Record<string, unknown> = {};
  const origins = {} as Record<SettingName, string>;
  for (const name of settingNames) {
    const layer = layers.find(({ values }) => values[name] !== undefined);
    origins[name] = layer ? layer.originOf(name) : "unset";
    if (!layer) continue;
    const checked = settings[name].safeParse(layer.values[name]);
    if (!checked.success) throw badValue(origins[name], name, checked.error);
    found[name] = checked.data;
  }
  return { settings: found as unknown as Settings, origins };
}

/** The user's file: ~/.config/modal-sb/config.json, or below XDG_CONFIG_HOME. */
export function userFilePath(environment: Environment, home: string): string {
  return join(environment["XDG_CONFIG_HOME"] || join(home, ".config"), "modal-sb/config.json");
}

/** The Anthropic credential, how it is carried, and where it was found. */
export interface AnthropicCredential {
  kind: "apiKey" | "authToken";
  value: Secret;
  /** where it can be read again */
  source?: CredentialSource;
  /** e.g. "--key-file" */
  origin: string;
}

/**
 * The real key, from a file or a command before the environment. Throws a ConfigError that says how to give one, or why
 * the one that was named cannot be read.
 */
export async function anthropicCredential(config: Config, environment: Environment): Promise<AnthropicCredential> {
  const place = placeOf(config, environment);
  if (!place) {
    throw new ConfigError("No Anthropic API key", {
      hint: [
        "give one in any of these ways; it stays with the proxy and never enters the sandbox:",
        "  ANTHROPIC_API_KEY=… modal-sb",
        "  modal-sb --key-file <path>",
        "  modal-sb --key-command 'op read op://vault/anthropic/key'",
        `  "keyFile": "<path>" in ${userFilePath(environment, homedir())}`,
        "or try it without an account: modal-sb demo",
      ].join("\n"),
    });
  }
  const { description, origin, kind } = place;
  const source = new CredentialSource(description, environment, origin);
  return { kind, value: await source.read(), source, origin };
}

/** Where the Anthropic credential would be read from; undefined when there is none. */
function placeOf(
  { settings: { keyFile, keyCommand }, origins }: Config,
  environment: Environment,
): { description: SourceDescription; origin: string; kind: AnthropicCredential["kind"] } | undefined {
  if (keyFile !== undefined) return { description: { file: keyFile }, origin: origins.keyFile, kind: "apiKey" };
  if (keyCommand !== undefined)
    return { description: { command: keyCommand }, origin: origins.keyCommand, kind: "apiKey" };
  const names = [
    ["ANTHROPIC_API_KEY", "apiKey"],
    ["ANTHROPIC_AUTH_TOKEN", "authToken"],
  ] as const;
  const [name, kind] = names.find(([variable]) => environment[variable]?.trim()) ?? [];
  return name && kind && { description: { env: name }, origin: name, kind };
}

function environmentLayer(environment: Environment): Layer {
  const known = new Map(settingNames.map((name) => [variableOf(name), name]));
  const values: Record<string, unknown> = {};
  for (const [variable, name] of known) {
    const value = environment[variable];
    if (value === undefined || value === "") continue;
    values[name] = name === "egress" ? egressOfWords(value) : parsedWord(name, value);
  }
  const unknown = Object.keys(environment).find(
    (variable) => variable.startsWith("MODAL_SB_") && !known.has(variable) && !testVariables.has(variable),
  );
  if (unknown) {
    throw new ConfigError(`Unknown setting in the environment: ${unknown}`, {
      hint: `the variables are ${[...known.keys()].join(", ")}`,
    });
  }
  return { values, originOf: variableOf };
}

/** not settings: they steer the test suite */
const testVariables = new Set(["MODAL_SB_TEST_MODAL"]);

/** The name of a policy, or hostnames with commas between them. */
export function egressOfWords(text: string): unknown {
  if (["ml", "none", "open", "deny-all", "dangerously-allow-all-hostnames"].includes(text)) return text;
  return { allow: text.split(",").map((word) => word.trim()) };
}

/** Lists have commas between their words, other structures are JSON. Throws a ConfigError. */
function parsedWord(name: SettingName, value: string): unknown {
  if (/^\s*[[{]/.test(value)) {
    try {
      return JSON.parse(value);
    } catch (error) {
      throw new ConfigError(`${variableOf(name)} is not JSON: ${messageOf(error)}`);
    }
  }
  if (name === "models" || name === "anthropicAllow") return value.split(",").map((word) => word.trim());
  if (name === "dangerouslyGiveAgentGithubToken") return value === "true" ? true : value === "false" ? false : value;
  return value;
}

/** A project may come from a stranger: it can restrict and instruct, but not say where the key goes. */
function projectLayer(path: string): Layer {
  const layer = fileLayer(path);
  const forbidden = userOnly.find((name) => layer.values[name] !== undefined);
  if (forbidden) {
    throw new ConfigError(
      `"${forbidden}" cannot be set in ${path}: a project could send your key elsewhere, or spend your money`,
      {
        hint: "set it by flag, in the environment or in your own configuration file",
      },
    );
  }
  const { ["egress"]: egress } = layer.values;
  if (egress === "dangerously-allow-all-hostnames" || egress === "open") {
    throw new ConfigError(`"egress" cannot be "${egress}" in ${path}`, {
      hint: "a project may list hostnames; only you can allow all: --dangerously-allow-all-hostnames",
    });
  }
  return layer;
}

function fileLayer(path: string): Layer {
  const originOf = () => path;
  if (!existsSync(path)) return { values: {}, originOf };
  let values: unknown;
  try {
    values = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    throw new ConfigError(`Cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
  if (typeof values !== "object" || values === null || Array.isArray(values)) {
    throw new ConfigError(`${path} must hold one JSON object`);
  }
  const unknown = Object.keys(values).find((key) => !settingNames.includes(key as SettingName));
  if (unknown !== undefined) {
    throw new ConfigError(`Unknown key "${unknown}" in ${path}`, { hint: `the keys are ${settingNames.join(", ")}` });
  }
  const record = values as Record<string, unknown>;
  // paths in a file are meant from where the file lies
  for (const name of ["instructions", "keyFile", "stateFolder"]) {
    if (typeof record[name] === "string") record[name] = resolve(path, "..", expandHome(record[name]));
  }
  return { values: record, originOf };
}

function expandHome(path: string): string {
  return path.startsWith("~/") ? join(homedir(), path.slice(2)) : path;
}

/** where the flag has another name than the setting */
const flags: Partial<Record<SettingName, string>> = {
  provider: "--on",
  cpuCores: "--cpu",
  regions: "--region",
  maxWaitMinutes: "--max-wait",
};

function flagOf(name: SettingName): string {
  const flag = flags[name];
  if (flag !== undefined) return flag;
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

function badValue(origin: string, name: SettingName, error: z.ZodError): ConfigError {
  const reasons = error.issues.map((issue) => [issue.path.join("."), issue.message].filter(Boolean).join(": "));
  return new ConfigError(`Bad value for "${name}" in ${origin}: ${reasons.join("; ")}`, {
    hint: settings[name].description ?? "",
  });
}
