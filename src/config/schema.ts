/** Every setting, once: its check, default and description. docs/configuration.md is generated from this. */
import { z } from "zod";

/** Public package indexes: reached by hostname, and only these besides the ones that the host's own settings name. */
const packageIndexHostnames = ["pypi.org", "files.pythonhosted.org", "registry.npmjs.org"];

const hostnamePattern = z
  .string()
  .regex(/^(\*\.)?([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z][a-z0-9-]*$/i, 'must be a hostname, or "*." and a hostname');

const egressSchema = z.union(
  [
    z.literal("deny-all"),
    z.strictObject({ allow: z.array(hostnamePattern) }),
    z.literal("dangerously-allow-all-hostnames"),
  ],
  { error: 'must be "deny-all", {"allow": ["hostname", …]} or "dangerously-allow-all-hostnames"' },
);

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

const count = (unit: string, low: number, high: number) =>
  z.coerce.number<string | number>().int().min(low).max(high).describe(unit);

export const settings = {
  provider: z.enum(["local"]).describe("where sandboxes run"),
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
  stateFolder: z.string().min(1).describe("where sessions and their volumes are kept"),
} as const;

export type SettingName = keyof typeof settings;
export const settingNames = Object.keys(settings) as SettingName[];

export type Settings = { [Name in SettingName]: z.infer<(typeof settings)[Name]> };

/** Defaults but for stateFolder, which depends on the user. */
export const defaults: Partial<Settings> = {
  provider: "local",
  maxTurns: 100,
  egress: { allow: packageIndexHostnames },
  memoryMiB: 8192,
  processes: 1024,
  fileSizeMiB: 16_384,
  lifetimeMinutes: 24 * 60,
  anthropicOrigin: "https://api.anthropic.com",
};

/** Settings that decide where a credential goes or what is read from the user's machine: not for a project's file. */
export const userOnly: readonly SettingName[] = ["anthropicOrigin", "keyFile", "stateFolder"];

/** The environment variable of a setting: maxTurns is MODAL_SB_MAX_TURNS. */
export function variableOf(name: SettingName): string {
  return `MODAL_SB_${name.replace(/([a-z])([A-Z])/g, "$1_$2").toUpperCase()}`;
}
