/** What the host tells the proxy, in the environment variable MODAL_SB_PROXY_CONFIG; credentials come as files. */
import { Credentials } from "./credentials.ts";
import { type Price, Prices } from "./prices.ts";
import type { Door, ProxyOptions } from "./proxy.ts";
import { anthropicUpstream } from "./upstreams/anthropic.ts";
import { type CustomUpstream, customUpstream } from "./upstreams/custom.ts";
import { githubApiUpstream, githubGitUpstream } from "./upstreams/github.ts";
import { huggingFaceUpstream } from "./upstreams/huggingface.ts";
import type { Upstream } from "./upstreams/upstream.ts";

interface ProxyConfig {
  upstreams: {
    anthropic?: { origin: string };
    github?: { origin: string; apiOrigin: string };
    huggingface?: { origin: string };
    custom?: readonly CustomUpstream[];
  };
  doors: readonly Door[];
  /** where sandboxes find the proxy, e.g. "http://modal-sb-proxy:8080" */
  publicOrigin: string;
  controlPath: string;
  dataFolder: string;
  credentialsFolder: string;
  /** US dollars a million tokens, by model */
  prices?: Readonly<Record<string, Price>>;
  /** seconds of an event stream's silence after which a ping is sent; 0: never */
  pingSeconds?: number;
  /** false where the volume of the data folder cannot be read by others at the same time */
  sharedDatabases?: boolean;
}

/** Reads the variable, and the credentials. Throws when something is missing: only a wrong host can cause that. */
export function readProxyConfig(json: string | undefined): ProxyOptions {
  const config = JSON.parse(json ?? "null") as ProxyConfig | null;
  for (const field of [
    "upstreams",
    "doors",
    "publicOrigin",
    "controlPath",
    "dataFolder",
    "credentialsFolder",
  ] as const) {
    if (config?.[field] === undefined) throw new Error(`MODAL_SB_PROXY_CONFIG lacks "${field}"`);
  }
  const {
    upstreams,
    credentialsFolder,
    doors,
    publicOrigin,
    controlPath,
    dataFolder,
    pingSeconds = 0,
    sharedDatabases = true,
  } = config as ProxyConfig;
  const custom = upstreams.custom ?? [];
  const credentials = new Credentials(credentialsFolder, [
    ...["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "GITHUB_TOKEN", "HF_TOKEN"],
    ...custom.flatMap(({ credential }) => credential?.name ?? []),
  ]);
  const prices = new Prices(config?.prices);
  const made = makeUpstreams(upstreams, credentials, prices);
  const lacking = made.find(({ credential }) => credential && !credentials.has(credential.name));
  if (lacking) throw new Error(`No credential: "${credentialsFolder}" lacks ${lacking.credential?.name}`);
  return {
    doors,
    publicOrigin,
    controlPath,
    dataFolder,
    upstreams: made,
    credentials,
    prices,
    sharedDatabases,
    pingMs: pingSeconds * 1000,
  };
}

function makeUpstreams(
  { anthropic, github, huggingface, custom = [] }: ProxyConfig["upstreams"],
  credentials: Credentials,
  prices: Prices,
): Upstream[] {
  const key =
    credentials.has("ANTHROPIC_AUTH_TOKEN") && !credentials.has("ANTHROPIC_API_KEY") ? "AUTH_TOKEN" : "API_KEY";
  return [
    ...(anthropic ? [anthropicUpstream(anthropic.origin, `ANTHROPIC_${key}`, prices)] : []),
    ...(github ? [githubGitUpstream(github.origin), githubApiUpstream(github.apiOrigin)] : []),
    ...(huggingface ? [huggingFaceUpstream(huggingface.origin)] : []),
    ...custom.map(customUpstream),
  ];
}

/** Throws when the process could show its memory or trust any server. */
export function refuseUnsafeProcess(
  environment: Readonly<Record<string, string | undefined>>,
  execArgv: readonly string[],
): void {
  if (environment["NODE_TLS_REJECT_UNAUTHORIZED"] === "0") {
    throw new Error("NODE_TLS_REJECT_UNAUTHORIZED=0 would send the credential to anyone");
  }
  if (environment["NODE_DEBUG"]) throw new Error("NODE_DEBUG would print headers");
  const options = [...execArgv, ...(environment["NODE_OPTIONS"] ?? "").split(/\s+/)];
  if (options.some((option) => option.startsWith("--inspect"))) {
    throw new Error("--inspect would open the proxy's memory");
  }
}
