/** What a CLAUDE.md can say of the sandbox that it is in, from the session's options and what the provider can do. */
import type { MetricsAccess, SessionOptions } from "./contract.ts";

/**
 * Memory of a GPU in GB, by the names that providers use. Source: NVIDIA's data sheets; of what a name leaves open, the smaller
 * one: an A100 has 40 or 80.
 */
const gpuMemory = new Map<string, number>([
  ["T4", 16],
  ["L4", 24],
  ["A10", 24],
  ["L40S", 48],
  ["A100", 40],
  ["A100-40GB", 40],
  ["A100-80GB", 80],
  ["RTX-PRO-6000", 96],
  ["H100", 80],
  ["H200", 141],
  ["B200", 180],
]);

/** Every placeholder, and what stands for it; docs/agent-home.md has the same words. */
export const placeholders = {
  gpu: 'the GPU with its memory, such as "an A10 with 24 GB"; of several, that the first free one was taken',
  cores: "physical cores that were asked for",
  memory: 'memory of the sandbox, such as "8 GiB"',
  lifetime: 'after how long the sandbox ends, such as "24 hours"',
  steps: "steps that one message of the user may take",
  budget: 'what the session may cost, such as "$20"',
  savedWithin: "how much of the last writing a lost sandbox takes with it, where volumes are not saved at once",
  hostnames: "the hostnames of the egress policy, with commas",
  anyHostname: '"yes" when all public hostnames can be reached',
  pypi: '"yes" when PyPI can be reached',
  npm: '"yes" when npm\'s registry can be reached',
  debian: '"yes" when Debian\'s packages can be reached',
  hub: '"yes" when Hugging Face can be reached, straight or by the proxy',
  hubFiles: '"yes" when Hugging Face\'s storage of large files can be reached',
  huggingface: "what of Hugging Face the proxy reads with the user's token",
  github: "repositories that the proxy opens, and how far",
  githubWrite: '"yes" when one of them may be written to',
  gh: '"yes" when `gh` works for them, and not only `git`',
  upstreams: "the user's own APIs behind the proxy",
  metrics: "where the metrics of trainings go",
  media: '"yes" when images and sounds go there too',
  given: "variables with credentials that the user gave the agent, against all advice",
} as const;

export type HomeFacts = Readonly<Record<keyof typeof placeholders, string>>;

/** `byPath`: the proxy is also reached by a socket, which is what `gh` needs. */
export function homeFacts(options: SessionOptions, byPath: boolean): HomeFacts {
  const { limits, machine, provider, egressHostnames, huggingface, github, metrics, upstreams = [] } = options;
  const isAny = egressHostnames === "dangerously-allow-all-hostnames";
  const hostnames = isAny ? [] : egressHostnames;
  const reaches = (...names: string[]) => yes(isAny || names.every((name) => isAllowed(name, hostnames)));
  const repositories = Object.entries(github?.repositories ?? {}).sort(([one], [other]) => (one < other ? -1 : 1));
  return {
    gpu: gpuWords(machine?.gpus ?? []),
    cores: machine?.cpuCores === undefined ? "" : String(machine.cpuCores),
    memory: limits.memoryMiB % 1024 === 0 ? `${limits.memoryMiB / 1024} GiB` : `${limits.memoryMiB} MiB`,
    lifetime: spanWords(limits.lifetimeMs),
    steps: String(options.maxTurns),
    budget: options.useLimits?.usd === undefined ? "" : `$${options.useLimits.usd}`,
    savedWithin: provider.capabilities.sharedVolumes ? "" : "few seconds",
    hostnames: list(hostnames),
    anyHostname: yes(isAny),
    pypi: reaches("pypi.org", "files.pythonhosted.org"),
    npm: reaches("registry.npmjs.org"),
    debian: reaches("deb.debian.org"),
    hub: yes(huggingface !== undefined) || reaches("huggingface.co"),
    hubFiles: reaches("cdn-lfs.hf.co"),
    huggingface: huggingface
      ? huggingface.repositories
        ? list(huggingface.repositories)
        : "all that it may read"
      : "",
    github: repositories
      .map(([name, access]) => `\`${name}\` (${access === "write" ? "read and write" : "read"})`)
      .join(", "),
    githubWrite: yes(repositories.some(([, access]) => access === "write")),
    gh: yes(github !== undefined && byPath),
    upstreams: upstreams
      .map(
        ({ name, allow }) =>
          `\`${name}\` (${allow.map(({ methods, path }) => `${methods.join(", ")} ${path}`).join("; ")})`,
      )
      .join(", "),
    metrics: metrics ? destinationWords(metrics) : "",
    media: yes(metrics?.withMedia === true),
    given: list([...(options.dangerouslyGivenToAgent?.keys() ?? [])]),
  };
}

function yes(isTrue: boolean): string {
  return isTrue ? "yes" : "";
}

function list(names: readonly string[]): string {
  return names.map((name) => `\`${name}\``).join(", ");
}

/** As egress policies are meant: an exact name, or `*.` and what is above it. */
function isAllowed(name: string, hostnames: readonly string[]): boolean {
  return hostnames
    .map((allowed) => allowed.toLowerCase())
    .some((allowed) => (allowed.startsWith("*.") ? name.endsWith(allowed.slice(1)) : name === allowed));
}

function gpuWords(gpus: readonly string[]): string {
  const [only, ...others] = gpus.map((text) => {
    const [asked = "", count = "1"] = text.toUpperCase().split(":");
    // "H100!" and "B200+" say how strictly it is meant
    const name = asked.replace(/[!+]$/, "");
    const memory = gpuMemory.get(name);
    const each = memory === undefined ? "" : `${memory} GB${count === "1" ? "" : " each"}`;
    const article = /^[AEFHILMNORSX]/.test(name) ? "an" : "a";
    return {
      many: count === "1" ? name : `${count} × ${name}`,
      one: count === "1" ? `${article} ${name}` : `${count} × ${name}`,
      each,
    };
  });
  if (!only) return "";
  if (others.length === 0) return only.each ? `${only.one} with ${only.each}` : only.one;
  return `the first that was free of ${[only, ...others].map(({ many, each }) => (each ? `${many} (${each})` : many)).join(", ")}`;
}

function spanWords(ms: number): string {
  const minutes = Math.round(ms / 60_000);
  const [count, unit] = minutes >= 120 ? [Math.round(minutes / 6) / 10, "hour"] : [minutes, "minute"];
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

function destinationWords({ server, spaces, createSpace }: MetricsAccess): string {
  if (server !== undefined) return `the user's trackio server at ${new URL(server).host}`;
  const words = `the Space${spaces.length > 1 ? "s" : ""} ${list(spaces)}`;
  return createSpace === undefined ? words : `${words}, made when it is missing`;
}
