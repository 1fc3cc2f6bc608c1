/**
 * The host's pip and npm settings, so that an install inside works where it works outside: index addresses, local
 * folders, certificates. Addresses lose their user and password; nothing else of the files is used.
 */
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

export interface PackageIndexes {
  /** environment variables of pip and npm */
  environment: Record<string, string>;
  /** what the egress policy must allow; trusted by the host, so these may lie in a private network */
  endpoints: Endpoint[];
  /** local folders and files that the settings name */
  paths: string[];
  /** what could not be passed in, each a sentence for the user */
  warnings: string[];
}

export interface Endpoint {
  hostname: string;
  port: number;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** pip option → environment variable; values are addresses, paths, or lists of either */
const pipOptions = {
  "index-url": "PIP_INDEX_URL",
  "extra-index-url": "PIP_EXTRA_INDEX_URL",
  "find-links": "PIP_FIND_LINKS",
  constraint: "PIP_CONSTRAINT",
  cert: "PIP_CERT",
  "trusted-host": "PIP_TRUSTED_HOST",
} as const;

/** npm option → environment variable */
const npmOptions = { registry: "NPM_CONFIG_REGISTRY", cafile: "NPM_CONFIG_CAFILE" } as const;

/** variables by which programs find an extra certificate authority; each a path */
const certificateVariables = [
  "NODE_EXTRA_CA_CERTS",
  "SSL_CERT_FILE",
  "SSL_CERT_DIR",
  "REQUESTS_CA_BUNDLE",
  "CURL_CA_BUNDLE",
  "GIT_SSL_CAINFO",
];

/** Reads the settings that apply to `environment`'s user. Later files win, variables win over files, as in pip. */
export function readPackageIndexes(environment: Environment, home = homedir()): PackageIndexes {
  const result: PackageIndexes = { environment: {}, endpoints: [], paths: [], warnings: [] };
  const pip = pipSettings(environment, home);
  for (const [option, variable] of Object.entries(pipOptions)) {
    const words = (environment[variable] ?? pip.get(option) ?? "").split(/\s+/).filter(Boolean);
    if (words.length > 0) result.environment[variable] = words.map((word) => admit(word, result)).join(" ");
  }
  const npm = npmSettings(environment, home);
  for (const [option, variable] of Object.entries(npmOptions)) {
    const value = environment[variable.toLowerCase()] ?? environment[variable] ?? npm.get(option);
    if (value) result.environment[variable] = admit(value, result);
  }
  for (const variable of certificateVariables) {
    const path = environment[variable];
    if (path) result.environment[variable] = admit(path, result);
  }
  result.paths = [...new Set(result.paths)];
  return result;
}

/** Notes what a setting's word needs, and returns it without user and password. */
function admit(word: string, result: PackageIndexes): string {
  if (word.startsWith("/")) {
    if (existsSync(word)) result.paths.push(word);
    return word;
  }
  if (!URL.canParse(word)) return word;
  const url = new URL(word);
  if (url.protocol === "file:") {
    // a folder of index pages links to files beside it
    const folder = dirname(url.pathname.replace(/\/$/, ""));
    if (existsSync(url.pathname) && folder !== "/" && !`${homedir()}/`.startsWith(`${folder}/`))
      result.paths.push(folder);
    return word;
  }
  if (url.username !== "" || url.password !== "") {
    url.username = "";
    url.password = "";
    result.warnings.push(`The package index at ${url.hostname} needs a password, which is not passed to the sandbox`);
  }
  const port = Number(url.port || (url.protocol === "http:" ? 80 : 443));
  if (url.hostname !== "") result.endpoints.push({ hostname: url.hostname, port });
  return url.href;
}

function pipSettings(environment: Environment, home: string): Map<string, string> {
  const files =
    environment["PIP_CONFIG_FILE"] !== undefined
      ? [environment["PIP_CONFIG_FILE"]]
      : [
          "/etc/xdg/pip/pip.conf",
          "/etc/pip.conf",
          join(home, ".pip/pip.conf"),
          join(environment["XDG_CONFIG_HOME"] ?? join(home, ".config"), "pip/pip.conf"),
        ];
  return new Map(files.flatMap((file) => [...parseIni(readOrEmpty(file), ["global", "install"])]));
}

function npmSettings(environment: Environment, home: string): Map<string, string> {
  const files = [
    "/usr/etc/npmrc",
    "/usr/local/etc/npmrc",
    environment["NPM_CONFIG_USERCONFIG"] ?? join(home, ".npmrc"),
  ];
  return new Map(files.flatMap((file) => [...parseIni(readOrEmpty(file), [""])]));
}

/** `key = value` lines of the named sections; an indented line goes on with the value before it, as pip writes lists. */
export function parseIni(text: string, sections: readonly string[]): Map<string, string> {
  const values = new Map<string, string>();
  let section = "";
  let key = "";
  for (const line of text.split("\n")) {
    if (/^\s*([#;]|$)/.test(line)) continue;
    const header = /^\[(.*)\]\s*$/.exec(line)?.[1];
    const pair = /^([^\s=:][^=:]*?)\s*=\s*(.*?)\s*$/.exec(line);
    if (header !== undefined) section = header;
    else if (!sections.includes(section)) continue;
    else if (/^\s/.test(line) && key !== "") values.set(key, `${values.get(key)} ${line.trim()}`.trim());
    else if (pair) {
      key = (pair[1] as string).toLowerCase().replaceAll("_", "-");
      values.set(key, (pair[2] as string).replace(/^"(.*)"$/, "$1"));
    }
  }
  return values;
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // an absent or closed file sets nothing
    return "";
  }
}
