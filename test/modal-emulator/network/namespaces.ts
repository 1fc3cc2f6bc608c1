/** Network namespaces named after the process that made them, so that those of dead processes can be told. */
import { execFile, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { startOf } from "../../helpers/processes.ts";

const run = promisify(execFile);
const folder = "/run/netns";
const prefix = "modal-emulator";

/**
 * Where every name of the emulated internet leads. It looks public (RFC 5737 documentation addresses), because programs
 * refuse names that lead to private addresses.
 */
export const internetAddress = "203.0.113.10";

/** A server of the sandbox on 0.0.0.0 would answer on the internet's address too: only port 443 of that is delivered. */
const connected = `
address add ${internetAddress}/32 dev lo
rule add pref 1 to ${internetAddress} ipproto tcp dport 443 lookup local
rule add pref 2 to ${internetAddress} ipproto tcp sport 443 lookup local
rule add pref 3 to ${internetAddress} prohibit
rule add pref 4 lookup local
rule del pref 0 lookup local
`;

/** Why this process can make none, in words for a skipped test; undefined: it can. */
export function whyNoNamespaces(): string | undefined {
  if (process.getuid?.() !== 0) return "network namespaces need root";
  const tried = spawnSync("unshare", ["--net", "ip", "link", "show", "lo"], { encoding: "utf8" });
  if (tried.status === 0) return undefined;
  return `network namespaces cannot be made here: ${tried.error?.message ?? tried.stderr.trim()}`;
}

/** Returns its name. It has a loopback interface and nothing else; `internet` adds the internet's address to that. */
export async function addNamespace(options: { internet: boolean }): Promise<string> {
  const name = [prefix, process.pid, startOf(process.pid), randomBytes(4).toString("hex")].join("-");
  await run("ip", ["netns", "add", name]);
  const commands = run("ip", ["-n", name, "-batch", "-"]);
  commands.child.stdin?.end(`link set lo up\n${options.internet ? connected : ""}`);
  await commands;
  return name;
}

export function pathOf(name: string): string {
  return join(folder, name);
}

export async function deleteNamespace(name: string): Promise<void> {
  if (existsSync(pathOf(name))) await run("ip", ["netns", "delete", name]);
}

/** Deletes what processes left that did not end in order. */
export async function sweepNamespaces(): Promise<void> {
  for (const name of namespaceNames()) {
    const [pid, start] = name.slice(prefix.length + 1).split("-");
    if (startOf(Number(pid)) !== start) await deleteNamespace(name).catch(() => {});
  }
}

function namespaceNames(): string[] {
  return existsSync(folder) ? readdirSync(folder).filter((name) => name.startsWith(`${prefix}-`)) : [];
}
