/** From settings to what the proxy brokers: credentials are read here, and go nowhere but to the proxy. */
import { CredentialSource, type SourceDescription } from "../config/credential-source.ts";
import { anthropicCredential, type Config, type Environment } from "../config/load.ts";
import { ConfigError } from "../errors.ts";
import { canAllow, features } from "../proxy/anthropic-lists.ts";
import type { StoredSecret } from "../sandbox/provider.ts";
import type { Secret } from "../secret.ts";
import type { CustomAccess, SessionOptions } from "../session/contract.ts";

type Brokered = Pick<
  SessionOptions,
  | "anthropic"
  | "github"
  | "huggingface"
  | "upstreams"
  | "metrics"
  | "useLimits"
  | "prices"
  | "pingSeconds"
  | "dangerouslyGivenToAgent"
>;

/**
 * `canBeStored`: the provider keeps secrets by name, and the user has not asked for the ones of this machine. Throws a
 * ConfigError that names the setting whose credential is not there.
 */
export async function brokeredAccess(
  config: Config,
  environment: Environment,
  canBeStored: boolean,
): Promise<Brokered> {
  const { settings } = config;
  const stored = canBeStored && settings.secrets === "stored" ? settings.secretNames : undefined;
  const { models, maxOutputTokens, anthropicAllow: allow, prices, pingSeconds } = settings;
  const readers = new Readers(environment, config);
  refuseUselessNames(allow);
  return {
    anthropic: {
      ...(await anthropicAccess(config, environment, stored)),
      ...{ origin: settings.anthropicOrigin, maxOutputTokens, allow },
      ...(models && { models }),
    },
    ...(settings.github && { github: await githubAccess(settings.github, readers, stored) }),
    ...(settings.huggingface && {
      huggingface: huggingFaceAccess(
        settings.huggingface,
        storedToken(stored, "huggingface", settings.huggingface.token) ?? (await huggingFaceToken(config, environment)),
      ),
    }),
    ...(settings.metrics && { metrics: await metricsAccess(settings.metrics, readers, config, environment, stored) }),
    upstreams: await Promise.all(Object.entries(settings.upstreams ?? {}).map((entry) => customAccess(entry, readers))),
    useLimits: {
      usd: settings.budgetUsd,
      requestsPerMinute: settings.requestsPerMinute,
      concurrentRequests: settings.concurrentRequests,
    },
    ...(prices && { prices }),
    pingSeconds,
    ...(settings.dangerouslyGiveAgentGithubToken && {
      dangerouslyGivenToAgent: new Map([
        ["GITHUB_TOKEN", await readers.first("dangerouslyGiveAgentGithubToken", githubPlaces)],
      ]),
    }),
  };
}

type SecretNames = Config["settings"]["secretNames"];

/** The variable in the provider's secret, and the secret's name when the user gave no other. */
const usualSecrets = {
  anthropic: { storedAs: "anthropic-secret", key: "ANTHROPIC_API_KEY" },
  huggingface: { storedAs: "hf-secret", key: "HF_TOKEN" },
  github: { storedAs: "github-secret", key: "GITHUB_TOKEN" },
} as const;

/** undefined: nothing is stored, or the user has named another place for this one. */
function storedToken(
  stored: SecretNames | undefined,
  which: keyof typeof usualSecrets,
  place?: SourceDescription,
): StoredSecret | undefined {
  if (!stored || place) return undefined;
  return { ...usualSecrets[which], ...(stored[which] !== undefined && { storedAs: stored[which] }) };
}

/** The secrets that a session of this configuration needs the provider to keep. */
export function neededSecrets({ settings }: Config): StoredSecret[] {
  const { secrets, secretNames, keyFile, keyCommand, github, huggingface, metrics } = settings;
  const stored = secrets === "stored" ? secretNames : undefined;
  const needed = [
    keyFile === undefined && keyCommand === undefined ? storedToken(stored, "anthropic") : undefined,
    github && storedToken(stored, "github", github.token),
    (huggingface ?? metrics?.spaces) && storedToken(stored, "huggingface", huggingface?.token ?? metrics?.token),
  ];
  return needed.filter((secret) => secret !== undefined);
}

/** A key file or command that the user names goes before what is stored. */
async function anthropicAccess(
  config: Config,
  environment: Environment,
  stored: SecretNames | undefined,
): Promise<Pick<SessionOptions["anthropic"], "apiKey" | "authToken" | "source">> {
  const { keyFile, keyCommand } = config.settings;
  const apiKey = keyFile === undefined && keyCommand === undefined ? storedToken(stored, "anthropic") : undefined;
  if (apiKey) return { apiKey };
  const { kind, value, source } = await anthropicCredential(config, environment);
  return { [kind]: value, ...(source && { source }) };
}

const githubPlaces: readonly SourceDescription[] = [{ env: "GITHUB_TOKEN" }, { env: "GH_TOKEN" }];
const huggingFacePlaces: readonly SourceDescription[] = [{ env: "HF_TOKEN" }, { file: "~/.cache/huggingface/token" }];

/** Where the metrics of this configuration go. Throws a ConfigError when there is no token, or no destination. */
export async function configuredMetrics(
  config: Config,
  environment: Environment,
  canBeStored: boolean,
): Promise<NonNullable<Brokered["metrics"]>> {
  const { metrics, secrets, secretNames } = config.settings;
  if (!metrics) {
    throw new ConfigError("There is no destination for metrics", {
      hint: "--metrics owner/name, or the setting metrics; see docs/metrics.md",
    });
  }
  const stored = canBeStored && secrets === "stored" ? secretNames : undefined;
  return await metricsAccess(metrics, new Readers(environment, config), config, environment, stored);
}

class Readers {
  readonly #environment: Environment;
  readonly #config: Config;

  constructor(environment: Environment, config: Config) {
    this.#environment = environment;
    this.#config = config;
  }

  read(setting: "github" | "huggingface" | "metrics" | "upstreams", place: SourceDescription): Promise<Secret> {
    return new CredentialSource(place, this.#environment, this.#config.origins[setting]).read();
  }

  /** The first of the places that has one. */
  async first(setting: string, places: readonly SourceDescription[]): Promise<Secret> {
    for (const place of places) {
      const found = await new CredentialSource(place, this.#environment, setting).read().catch(() => undefined);
      if (found) return found;
    }
    const words = places.map(({ env, file }) => env ?? file).join(" or ");
    throw new ConfigError(`The setting "${setting}" needs a token, and there is none in ${words}`, {
      hint: `set one of them, or name its place: "${setting}": {"token": {"command": "…"}}`,
    });
  }
}

async function githubAccess(
  { repositories, graphql = false, token, origin, apiOrigin }: NonNullable<Config["settings"]["github"]>,
  readers: Readers,
  stored: SecretNames | undefined,
): Promise<NonNullable<Brokered["github"]>> {
  const kept = storedToken(stored, "github", token);
  return {
    token: kept ?? (token ? await readers.read("github", token) : await readers.first("github", githubPlaces)),
    repositories: Object.fromEntries(Object.entries(repositories).map(([name, may]) => [name.toLowerCase(), may])),
    graphql,
    origin: origin ?? "https://github.com",
    apiOrigin: apiOrigin ?? "https://api.github.com",
  };
}

/** The user's token: from the place that the setting `huggingface` names, or the usual ones. Throws a ConfigError. */
export async function huggingFaceToken(
  config: Config,
  environment: Environment,
  wantedBy = "huggingface",
): Promise<Secret> {
  const readers = new Readers(environment, config);
  const { token } = config.settings.huggingface ?? {};
  return token ? await readers.read("huggingface", token) : await readers.first(wantedBy, huggingFacePlaces);
}

function huggingFaceAccess(
  { repositories, origin }: NonNullable<Config["settings"]["huggingface"]>,
  token: Secret | StoredSecret,
): NonNullable<Brokered["huggingface"]> {
  return {
    token,
    ...(repositories && { repositories }),
    origin: origin ?? "https://huggingface.co",
  };
}

/** A server may do without a token; a Space does not. */
async function metricsAccess(
  metrics: NonNullable<Config["settings"]["metrics"]>,
  readers: Readers,
  config: Config,
  environment: Environment,
  stored: SecretNames | undefined,
): Promise<NonNullable<Brokered["metrics"]>> {
  const { spaces = [], server, token, writeToken, media = false, intervalSeconds = 10, maxMibPerHour = 256 } = metrics;
  const pace = { withMedia: media, intervalMs: intervalSeconds * 1000, maxBytesPerHour: maxMibPerHour * 2 ** 20 };
  if (server === undefined) {
    const hfToken =
      storedToken(stored, "huggingface", token ?? config.settings.huggingface?.token) ??
      (token ? await readers.read("metrics", token) : await huggingFaceToken(config, environment, "metrics"));
    return { ...pace, spaces, hfToken, createSpace: metrics.create, hubUrl: config.settings.huggingface?.origin };
  }
  const place = writeToken ?? { env: "TRACKIO_WRITE_TOKEN" };
  const found = await readers.read("metrics", place).catch((error: unknown) => {
    if (writeToken) throw error;
  });
  return { ...pace, spaces: [], server, ...(found && { writeToken: found }) };
}

async function customAccess(
  [name, { origin, credential, allow }]: [string, NonNullable<Config["settings"]["upstreams"]>[string]],
  readers: Readers,
): Promise<CustomAccess> {
  if (["v1", "healthz", "anthropic", "github", "huggingface"].includes(name)) {
    throw new ConfigError(`An upstream of your own cannot be called "${name}"`, { hint: "choose another name" });
  }
  if (!credential) return { name, origin, allow };
  const { as: injection, ...place } = credential;
  return { name, origin, allow, credential: { value: await readers.read("upstreams", place), injection } };
}

/** Throws a ConfigError for a name that opens nothing: the user would believe that it does. */
function refuseUselessNames(allow: readonly string[]): void {
  const useless = allow.find((entry) => !canAllow(entry));
  if (useless === undefined) return;
  throw new ConfigError(`"anthropicAllow" has "${useless}", which allows nothing`, {
    hint: `use ${Object.keys(features).join(", ")}, beta:<name>, field:<name> or tool:<type>; nothing allows threads`,
  });
}
