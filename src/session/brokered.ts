/** What the proxy brokers for a session: its upstreams with their credentials, the grant, and how the sandbox is pointed there. */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Grant } from "../proxy/grant.ts";
import type { FileMount, PortAddress } from "../sandbox/provider.ts";
import type { Credential, SessionOptions } from "./contract.ts";

/** The door for gh, which can be given a socket but no path. */
const ghSocketName = "api.github.com.sock";
const ghConfigFolder = "/etc/modal-sb/gh";

/** Doors of the proxy: where the provider serves its port, and beside a socket one for gh. */
export function proxyDoors(options: SessionOptions, port: number) {
  const at = options.provider.listenAt(port);
  return [
    { at, prefix: "" },
    ...(options.github && at.startsWith("/")
      ? [{ at: join(dirname(at), ghSocketName), prefix: "/api.github.com" }]
      : []),
  ];
}

/** The hosts that the proxy asks: where a provider can keep a role to names, it is kept to these. */
export function upstreamHostnames(options: SessionOptions): string[] {
  const { anthropic, github, huggingface, custom } = proxyUpstreams(options);
  const origins = [
    anthropic.origin,
    ...(github ? [github.origin, github.apiOrigin] : []),
    ...(huggingface ? [huggingface.origin] : []),
    ...custom.map(({ origin }) => origin),
  ];
  return [...new Set(origins.map((origin) => new URL(origin).hostname))];
}

/** The proxy's upstreams, as its configuration has them; credentials are named and not held. */
export function proxyUpstreams({ anthropic, github, huggingface, upstreams = [] }: SessionOptions) {
  return {
    anthropic: { origin: anthropic.origin },
    ...(github && { github: { origin: github.origin, apiOrigin: github.apiOrigin } }),
    ...(huggingface && { huggingface: { origin: huggingface.origin } }),
    custom: upstreams.map(({ name, origin, credential, allow }) => ({
      ...{ name, prefix: `/${name}`, origin, allow },
      ...(credential && { credential: { name: customCredential(name), injection: credential.injection } }),
    })),
  };
}

/** The real credentials, by the name under which the proxy finds them. */
export function proxySecrets({
  anthropic,
  github,
  huggingface,
  upstreams = [],
}: SessionOptions): Record<string, Credential> {
  return {
    ...(anthropic.apiKey && { ANTHROPIC_API_KEY: anthropic.apiKey }),
    ...(anthropic.authToken && { ANTHROPIC_AUTH_TOKEN: anthropic.authToken }),
    ...(github && { GITHUB_TOKEN: github.token }),
    ...(huggingface && { HF_TOKEN: huggingface.token }),
    ...Object.fromEntries(
      upstreams.flatMap(({ name, credential }) => (credential ? [[customCredential(name), credential.value]] : [])),
    ),
  };
}

/** What the agent's sandbox may use, but for its identity and its end. */
export function grantOf({
  name,
  anthropic,
  github,
  huggingface,
  upstreams = [],
  useLimits = {},
}: SessionOptions): Pick<Grant, "account" | "limits" | "upstreams"> {
  const { models, maxOutputTokens, allow } = anthropic;
  return {
    // a session's sandboxes follow each other, and share its budget
    account: name,
    limits: useLimits,
    upstreams: {
      anthropic: {
        ...(models && { models }),
        ...(maxOutputTokens !== undefined && { maxOutputTokens }),
        ...(allow && { allow }),
      },
      ...(github && { github: { repositories: github.repositories, graphql: github.graphql ?? false } }),
      ...(huggingface && { huggingface: huggingface.repositories ? { repositories: huggingface.repositories } : {} }),
      ...Object.fromEntries(upstreams.map((upstream) => [upstream.name, {}])),
    },
  };
}

/** How clients in the sandbox find the proxy instead of the APIs. `keyVariables` are to hold the sandbox key. */
export function agentAccess(
  { github, huggingface, anthropic, stateFolder }: SessionOptions,
  proxy: PortAddress,
): { env: Record<string, string>; keyVariables: string[]; files: FileMount[] } {
  const { maxOutputTokens } = anthropic;
  return {
    env: {
      ...(maxOutputTokens !== undefined && { CLAUDE_CODE_MAX_OUTPUT_TOKENS: String(maxOutputTokens) }),
      // the chunk store of the hub wants a token of its own in the sandbox
      ...(huggingface && { HF_ENDPOINT: `${proxy.url}/huggingface.co`, HF_HUB_DISABLE_XET: "1" }),
      ...(github && gitEnvironment(proxy)),
      ...(github && proxy.socketPath !== undefined && { GH_CONFIG_DIR: ghConfigFolder }),
    },
    keyVariables: ["MODAL_SB_SANDBOX_KEY", ...(github ? ["GH_TOKEN"] : []), ...(huggingface ? ["HF_TOKEN"] : [])],
    files:
      github && proxy.socketPath !== undefined
        ? [{ hostPath: ghConfiguration(stateFolder, dirname(proxy.socketPath)), path: ghConfigFolder }]
        : [],
  };
}

function customCredential(name: string): string {
  return `UPSTREAM_${name.toUpperCase().replaceAll("-", "_")}`;
}

/** Git's own way to be configured by the environment: addresses of GitHub lead to the proxy, which asks for the sandbox key. */
function gitEnvironment(proxy: PortAddress): Record<string, string> {
  const prefix = `url.${proxy.url}/github.com/.insteadOf`;
  const settings: [key: string, value: string][] = [
    [prefix, "https://github.com/"],
    [prefix, "git@github.com:"],
    [prefix, "ssh://git@github.com/"],
    [
      `credential.${proxy.url}.helper`,
      '!f() { test "$1" = get && echo username=sandbox && echo "password=$MODAL_SB_SANDBOX_KEY"; }; f',
    ],
  ];
  return {
    GIT_CONFIG_COUNT: String(settings.length),
    ...Object.fromEntries(
      settings.flatMap(([key, value], index) => [
        [`GIT_CONFIG_KEY_${index}`, key],
        [`GIT_CONFIG_VALUE_${index}`, value],
      ]),
    ),
    GIT_TERMINAL_PROMPT: "0",
  };
}

/** gh's configuration folder on the host: all that it says is where the socket is. */
function ghConfiguration(stateFolder: string, socketFolder: string): string {
  const folder = join(stateFolder, "cache/gh");
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  // a version, so that gh does not try to bring the file up to date
  const text = `version: "1"\ngit_protocol: https\nprompt: disabled\nhttp_unix_socket: ${socketFolder}/${ghSocketName}\n`;
  writeFileSync(join(folder, "config.yml"), text, { mode: 0o644 });
  return folder;
}
