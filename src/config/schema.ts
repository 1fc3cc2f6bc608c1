/** Every setting, once: its check, default and description. docs/configuration.md is generated from this. */
import { z } from "zod";

/** Public package indexes: reached by hostname, and only these besides the ones that the host's own settings name. */
const packageIndexHostnames = ["pypi.org", "files.pythonhosted.org", "registry.npmjs.org"];

/** What trainings fetch: packages, PyTorch's own builds, models and datasets with their CDNs, Debian. GitHub only by the proxy. */
const mlHostnames = [
  ...packageIndexHostnames,
  "download.pytorch.org",
  "huggingface.co",
  "*.huggingface.co",
  "*.hf.co",
  "deb.debian.org",
  "security.debian.org",
];

const hostnamePattern = z
  .string()
  .regex(/^(\*\.)?([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z][a-z0-9-]*$/i, 'must be a hostname, or "*." and a hostname');

const egressSchema = z
  .union(
    [
      z.enum(["ml", "none", "open", "deny-all", "dangerously-allow-all-hostnames"]),
      z.strictObject({ allow: z.array(hostnamePattern) }),
    ],
    { error: 'must be "ml", "none", "open" or {"allow": ["hostname", …]}' },
  )
  .transform((policy) => {
    if (policy === "ml") return { allow: mlHostnames };
    // the long names say what they mean; both are accepted
    if (policy === "none") return "deny-all" as const;
    return policy === "open" ? ("dangerously-allow-all-hostnames" as const) : policy;
  });

/** Words of a setting that is a list, given as one text with commas. */
function listOf(word: z.ZodType<string>) {
  return z.preprocess(
    (value) => (typeof value === "string" ? value.split(",").map((part) => part.trim()) : value),
    z.array(word).min(1),
  );
}

const secretName = z.string().regex(/^[A-Za-z0-9_.-]{1,63}$/, "must be a name of letters, digits, dots and dashes");

const origin = z
  .string()
  .refine((text) => URL.canParse(text) && new URL(text).origin === text.replace(/\/$/, ""), {
    message: "must be an origin such as https://api.anthropic.com",
    abort: true,
  })
  .refine((text) => text.startsWith("https:") || /^http:\/\/(127\.0\.0\.1|\[::1\]|localhost)(:|\/|$)/.test(text), {
    message: "must be https, or http on this machine: the key goes there",
  })
  .transform((text) => text.replace(/\/$/, ""));

const modelPattern = z.string().regex(/^[\w.:@/[\]-]{1,199}\*?$/, "must be a model id, or the beginning of one and *");

/** Where a credential is read from; never its value. */
const sourceFields = {
  env: z.string().min(1).optional(),
  file: z.string().min(1).optional(),
  command: z.string().min(1).optional(),
};
const hasOneSource = (value: { env?: string | undefined; file?: string | undefined; command?: string | undefined }) =>
  [value.env, value.file, value.command].filter((part) => part !== undefined).length === 1;
const source = z.strictObject(sourceFields).refine(hasOneSource, 'must have one of "env", "file" and "command"');

const repositoryName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9-]*\/(?!\.{1,2}$)[A-Za-z0-9._-]+$/, "must be owner/name");

const githubSchema = z.strictObject({
  repositories: z.record(repositoryName, z.enum(["read", "write"])),
  graphql: z.boolean().optional(),
  token: source.optional(),
  origin: origin.optional(),
  apiOrigin: origin.optional(),
});

const huggingfaceSchema = z.strictObject({
  repositories: z.array(z.string().regex(/^(?:(?:datasets|spaces)\/)?[\w.-]+(?:\/[\w.-]+)?$/)).optional(),
  token: source.optional(),
  origin: origin.optional(),
});

/** A Space, or all Spaces of an owner. */
const spacePattern = z
  .string()
  .regex(
    /^[A-Za-z0-9][\w-]{0,95}\/(?:[A-Za-z0-9][\w.-]{0,95}|\*)$/,
    "must be owner/name, or owner/* for all of an owner",
  );

const serverAddress = z
  .string()
  .refine((text) => URL.canParse(text) && /^https?:$/.test(new URL(text).protocol), "must be an http(s) address")
  .refine((text) => {
    const url = URL.parse(text);
    return !url || (url.search === "" && url.username === "" && url.password === "");
  }, "must hold no token: that is TRACKIO_WRITE_TOKEN, or writeToken");

const metricsSchema = z
  .strictObject({
    spaces: z.array(spacePattern).min(1).optional(),
    server: serverAddress.optional(),
    create: z.enum(["private", "public"]).optional(),
    media: z.boolean().optional(),
    intervalSeconds: z.number().min(1).max(30).optional(),
    maxMibPerHour: z.number().min(1).max(1_000_000).optional(),
    token: source.optional(),
    writeToken: source.optional(),
  })
  .refine(({ spaces, server }) => (spaces === undefined) !== (server === undefined), 'must have "spaces" or "server"')
  .refine(
    ({ spaces, create }) => create === undefined || (spaces !== undefined && !spaces[0]?.endsWith("/*")),
    '"create" needs a Space with its whole name, first in "spaces"',
  );

const injection = z.union([
  z.enum(["bearer", "x-api-key", "basic"]),
  z.templateLiteral(["header:", z.string().regex(/^[a-z0-9-]+$/)]),
]);

const upstreamSchema = z.strictObject({
  origin,
  credential: z
    .strictObject({ ...sourceFields, as: injection })
    .refine(hasOneSource, 'must have one of "env", "file" and "command"')
    .optional(),
  allow: z
    .array(
      z.strictObject({
        methods: z.array(z.enum(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])).min(1),
        path: z
          .string()
          .regex(/^\/[^*?#\s]*(?:(?<=\/)\*)?$/, 'must begin with "/"; a "*" may stand at the end, behind "/"'),
      }),
    )
    .min(1),
});

const rate = z.number().min(0);
const priceSchema = z.strictObject({
  input: rate,
  output: rate,
  cacheRead: rate,
  cacheWrite: rate,
  cacheWriteHour: rate,
});

/** In place of the type's own words; a number that is too small or too large has others. */
const unlessNumber = (what: string) => (issue: { code?: string | undefined }) =>
  issue.code === "invalid_type" ? `must be ${what}` : undefined;

/** A number, also as the text of a flag or variable. An empty text is none: JavaScript would take it for 0. */
const numberOf = (low: number, high: number, check = z.number({ error: unlessNumber("a number such as 5 or 0.5") })) =>
  z.preprocess(
    (value) => (typeof value === "string" && /^-?(\d+(\.\d*)?|\.\d+)$/.test(value.trim()) ? Number(value) : value),
    check.min(low).max(high),
  );

const count = (unit: string, low: number, high: number) =>
  numberOf(low, high, z.int({ error: unlessNumber("a whole number") })).describe(unit);

export const settings = {
  provider: z
    .enum(["local", "modal"])
    .describe("where sandboxes run: on this machine (bubblewrap), or in your account of Modal"),
  gpu: listOf(z.string().regex(/^[A-Za-z0-9-]{1,20}[+!]?(:[1-8])?$/, "must be a GPU such as A10 or H100:2"))
    .optional()
    .describe("GPUs for the agent in order of preference, such as H100,A100-80GB,A10; none when unset"),
  cpuCores: numberOf(0.125, 64).optional().describe("physical cores for the agent, where the provider lets one choose"),
  regions: listOf(z.string().regex(/^[a-z0-9-]{2,30}$/, "must be a region such as us-east"))
    .optional()
    .describe("where in the world sandboxes may run, such as eu,us-east; anywhere when unset"),
  maxWaitMinutes: count("longest wait for a GPU, in minutes", 1, 1440),
  modalApp: secretName.describe("the app of Modal that sandboxes belong to"),
  modalEnvironment: secretName.optional().describe("the environment of Modal; your account's own when unset"),
  creationsPerHour: count("sandboxes that may be made in an hour: a loop of failures cannot burn money", 3, 10_000),
  secrets: z
    .enum(["stored", "inline"])
    .describe(
      "on Modal: credentials by the names of Modal Secrets (stored), or taken from this machine and handed over with each start (inline)",
    ),
  secretNames: z
    .strictObject({
      anthropic: secretName.optional(),
      huggingface: secretName.optional(),
      github: secretName.optional(),
    })
    .describe('names of Modal Secrets, such as {"anthropic": "anthropic-secret"}; see docs/modal.md'),
  model: z.string().min(1).optional().describe("model id; claude's own default when unset"),
  maxTurns: count("steps that one message of the user may take", 1, 10_000),
  instructions: z
    .string()
    .min(1)
    .optional()
    .describe("folder that becomes /app/.claude in the sandbox: CLAUDE.md, skills/; the bundled one when unset"),
  egress: egressSchema.describe(
    "hostnames that the sandbox may reach besides the Claude API; the host's pip and npm indexes are always added",
  ),
  memoryMiB: count("memory of the agent's sandbox, in MiB", 512, 1_048_576),
  processes: count("processes and threads in the agent's sandbox", 64, 65_536),
  fileSizeMiB: count("largest file that the agent may write, in MiB", 1, 1_048_576),
  lifetimeMinutes: count("a sandbox ends after this long; the next turn gets a new one, in minutes", 1, 100_000),
  anthropicOrigin: origin.describe("origin of the Claude API"),
  keyFile: z.string().min(1).optional().describe("file that holds the Anthropic API key"),
  keyCommand: z
    .string()
    .min(1)
    .optional()
    .describe("command whose output is the Anthropic API key, such as `op read …`"),
  budgetUsd: numberOf(0, 1_000_000).describe(
    "what a session may cost, in US dollars; requests that could exceed it are refused",
  ),
  maxOutputTokens: count("highest max_tokens of a request to the API; claude is told", 1, 1_000_000),
  requestsPerMinute: count("requests of a session to all APIs, a minute", 1, 1_000_000),
  concurrentRequests: count("requests of a session that run at once", 1, 10_000),
  models: z
    .array(modelPattern)
    .min(1)
    .optional()
    .describe('models that may be used, such as ["claude-opus-5-5", "claude-haiku-*"]; all when unset'),
  anthropicAllow: z
    .array(z.string().min(1).max(200))
    .describe(
      "what of the API may reach out of the sandbox: web_search, web_fetch, code_execution, mcp, files, url_sources, skills; see docs/proxy.md",
    ),
  github: githubSchema
    .optional()
    .describe(
      'repositories that the sandbox may use, such as {"repositories": {"owner/name": "write"}}; see docs/proxy.md',
    ),
  huggingface: huggingfaceSchema
    .optional()
    .describe("private and gated models and datasets that the sandbox may read; see docs/proxy.md"),
  metrics: metricsSchema
    .optional()
    .describe('where the metrics of trainings go, such as {"spaces": ["owner/name"]}; see docs/metrics.md'),
  upstreams: z
    .record(z.string().regex(/^[a-z][a-z0-9-]{0,40}$/, "must be a word of letters, digits and dashes"), upstreamSchema)
    .optional()
    .describe("APIs of your own behind the proxy, by name; see docs/proxy.md"),
  prices: z
    .record(modelPattern, priceSchema)
    .optional()
    .describe("US dollars a million tokens, by model; before the built-in table"),
  pingSeconds: count("silence of a stream after which the proxy sends a ping, in seconds; 0: never", 0, 3600),
  dangerouslyGiveAgentGithubToken: z
    .boolean()
    .describe("puts GITHUB_TOKEN into the sandbox, where the agent can read and leak it; prefer `github`"),
  stateFolder: z.string().min(1).describe("where sessions and their volumes are kept"),
} as const;

export type SettingName = keyof typeof settings;
export const settingNames = Object.keys(settings) as SettingName[];

export type Settings = { [Name in SettingName]: z.infer<(typeof settings)[Name]> };

/** Defaults but for stateFolder, which depends on the user. */
export const defaults: Partial<Settings> = {
  provider: "local",
  maxWaitMinutes: 20,
  modalApp: "modal-sb",
  creationsPerHour: 60,
  secrets: "stored",
  secretNames: {},
  maxTurns: 100,
  egress: { allow: packageIndexHostnames },
  memoryMiB: 8192,
  processes: 1024,
  fileSizeMiB: 16_384,
  lifetimeMinutes: 24 * 60,
  anthropicOrigin: "https://api.anthropic.com",
  budgetUsd: 20,
  maxOutputTokens: 32_000,
  requestsPerMinute: 600,
  concurrentRequests: 32,
  anthropicAllow: [],
  pingSeconds: 0,
  dangerouslyGiveAgentGithubToken: false,
};

/** Settings that decide where a credential goes, what it may do, what is spent, or what is read from the user's machine: not for a project's file. */
export const userOnly: readonly SettingName[] = [
  "provider",
  "gpu",
  "cpuCores",
  "maxWaitMinutes",
  "modalApp",
  "modalEnvironment",
  "creationsPerHour",
  "secrets",
  "secretNames",
  "anthropicOrigin",
  "keyFile",
  "keyCommand",
  "stateFolder",
  "budgetUsd",
  "maxOutputTokens",
  "requestsPerMinute",
  "concurrentRequests",
  "models",
  "anthropicAllow",
  "github",
  "huggingface",
  "metrics",
  "upstreams",
  "prices",
  "dangerouslyGiveAgentGithubToken",
];

/** The environment variable of a setting: maxTurns is MODAL_SB_MAX_TURNS. */
export function variableOf(name: SettingName): string {
  return `MODAL_SB_${name
    .replace("MiB", "Mib")
    .replace(/([a-z])([A-Z])/g, "$1_$2")
    .toUpperCase()}`;
}
