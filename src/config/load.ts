/**
 * Settings from flags, the environment, the project's file, the user's file and the defaults; the first that has a value
 * wins. The only file that reads the environment of the command line.
 */
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import type { z } from "zod";
import { ConfigError, messageOf } from "../errors.ts";
import { Secret } from "../secret.ts";
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

export type AnthropicCredential = { apiKey: Secret } | { authToken: Secret };

/** The real key, from --key-file or keyFile before the environment. Throws a ConfigError that says how to give one. */
export function anthropicCredential(
  config: Config,
  environment: Environment,
): { credential: AnthropicCredential; origin: string } {
  const { keyFile } = config.settings;
  if (keyFile !== undefined) {
    return { credential: { apiKey: new Secret(readKeyFile(keyFile, config.origins.keyFile)) }, origin: keyFile };
  }
  const apiKey = environment["ANTHROPIC_API_KEY"]?.trim();
  if (apiKey) return { credential: { apiKey: new Secret(apiKey) }, origin: "ANTHROPIC_API_KEY" };
  const authToken = environment["ANTHROPIC_AUTH_TOKEN"]?.trim();
  if (authToken) return { credential: { authToken: new Secret(authToken) }, origin: "ANTHROPIC_AUTH_TOKEN" };
  throw new ConfigError("No Anthropic API key", {
    hint: [
      "give one in any of these ways; it stays with the proxy and never enters the sandbox:",
      "  ANTHROPIC_API_KEY=… modal-sb",
      "  modal-sb --key-file <path>",
      `  "keyFile": "<path>" in ${userFilePath(environment, homedir())}`,
      "or try it without an account: modal-sb demo",
    ].join("\n"),
  });
}

function readKeyFile(path: string, origin: string): string {
  let key: string;
  try {
    key = readFileSync(path, "utf8").trim();
  } catch (error) {
    throw new ConfigError(`Cannot read the key file of ${origin}: ${messageOf(error)}`, { cause: error });
  }
  if (!/^[\x21-\x7e]+$/.test(key)) {
    throw new ConfigError(`The key file "${path}" does not hold one key`, { hint: "it holds the key on one line" });
  }
  return key;
}

function environmentLayer(environment: Environment): Layer {
  const known = new Map(settingNames.map((name) => [variableOf(name), name]));
  const values: Record<string, unknown> = {};
  for (const [variable, name] of known) {
    const value = environment[variable];
    if (value === undefined || value === "") continue;
    values[name] = name === "egress" ? egressOfWords(value) : value;
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

/** `deny-all`, `dangerously-allow-all-hostnames`, or hostnames with commas between them. */
function egressOfWords(text: string): unknown {
  if (text === "deny-all" || text === "dangerously-allow-all-hostnames") return text;
  return { allow: text.split(",").map((word) => word.trim()) };
}

/** A project may come from a stranger: it can restrict and instruct, but not say where the key goes. */
function projectLayer(path: string): Layer {
  const layer = fileLayer(path);
  const forbidden = userOnly.find((name) => layer.values[name] !== undefined);
  if (forbidden) {
    throw new ConfigError(`"${forbidden}" cannot be set in ${path}: a project could send your key elsewhere`, {
      hint: "set it by flag, in the environment or in your own configuration file",
    });
  }
  if (layer.values["egress"] === "dangerously-allow-all-hostnames") {
    throw new ConfigError(`"egress" cannot be "dangerously-allow-all-hostnames" in ${path}`, {
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

function flagOf(name: SettingName): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

function badValue(origin: string, name: SettingName, error: z.ZodError): ConfigError {
  const reasons = error.issues.map((issue) => [issue.path.join("."), issue.message].filter(Boolean).join(": "));
  return new ConfigError(`Bad value for "${name}" in ${origin}: ${reasons.join("; ")}`, {
    hint: settings[name].description ?? "",
  });
}
