/** Credentials that this machine's user has in the usual places: looked for in the sandbox, so that none enters it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { minCredentialLength } from "../credential-forms.ts";
import { Secret } from "../secret.ts";
import type { Environment } from "./load.ts";

const credentialName =
  /(^|_)(API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PAT|CREDENTIALS?)(_|$)/i;

/** Files by their place under the home folder, each with what stands around a credential. */
const files: readonly [path: string, pattern: RegExp][] = [
  [".cache/huggingface/token", /^\s*(\S+)\s*$/g],
  [".huggingface/token", /^\s*(\S+)\s*$/g],
  [".config/gh/hosts.yml", /oauth_token:\s*(\S+)/g],
  [".git-credentials", /:\/\/[^:/\s]*:([^@\s]+)@/g],
  [".modal.toml", /token_secret\s*=\s*"([^"]+)"/g],
  [".aws/credentials", /aws_(?:secret_access_key|session_token)\s*=\s*(\S+)/g],
  [".netrc", /password\s+(\S+)/g],
  [".npmrc", /_(?:authToken|password|auth)\s*=\s*"?([^"\s]+)/g],
  [".pypirc", /password\s*[=:]\s*(\S+)/g],
  [".config/pip/pip.conf", /:\/\/[^:/\s]*:([^@\s]+)@/g],
  [".pip/pip.conf", /:\/\/[^:/\s]*:([^@\s]+)@/g],
  [".claude/.credentials.json", /"(?:accessToken|refreshToken)"\s*:\s*"([^"]+)"/g],
  [".docker/config.json", /"auth"\s*:\s*"([^"]+)"/g],
];

/** By label, such as "HF_TOKEN" or "~/.netrc". Values too short to be looked for are left out. */
export function knownCredentials(environment: Environment, home: string): Map<string, Secret> {
  const found = new Map<string, Secret>();
  const add = (label: string, value: string | undefined) => {
    if (value === undefined || value.length < minCredentialLength) return;
    const known = [...found.values()].some((secret) => secret.reveal() === value);
    if (!known) found.set(found.has(label) ? `${label} (${found.size})` : label, new Secret(value));
  };
  for (const [name, value = ""] of Object.entries(environment)) {
    // a path or a plain word is where a credential lies, or none
    if (credentialName.test(name) && !/^[~./]|^[a-z-]*$|\s/i.test(value)) add(name, value);
    if (value.includes("://") && URL.canParse(value)) add(name, new URL(value).password);
  }
  for (const [path, pattern] of files) {
    for (const [, value] of readOrEmpty(join(home, path)).matchAll(pattern)) add(`~/${path}`, value);
  }
  return found;
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // this user has no such file
    return "";
  }
}
