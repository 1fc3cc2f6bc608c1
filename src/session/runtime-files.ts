import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { FileMount, Machine } from "../sandbox/provider.ts";
import { strippedCode } from "./runtime-code.ts";

/** this file lies in src/session/ of a checkout or dist/session/ of an installed package */
const codeFolder = dirname(dirname(fileURLToPath(import.meta.url)));
const packageFolder = dirname(codeFolder);
const isSource = fileURLToPath(import.meta.url).endsWith(".ts");

/** Where our own code lies in every sandbox. */
const runtimeFolder = "/agent";
export const nodePath = `${runtimeFolder}/bin/node`;

export const bundledInstructions = join(packageFolder, "instructions");

/** The path, in a sandbox, of a module such as "agent/daemon". */
export function runtimeModule(name: string): string {
  return `${runtimeFolder}/code/${name}.js`;
}

/**
 * Parts of our code (a folder such as "agent", a module such as "errors") and the packages they import, at /agent.
 * `stateFolder` keeps what is made of a checkout's sources.
 */
export function runtimeFiles(parts: readonly string[], packages: readonly string[], stateFolder: string): FileMount[] {
  const code = isSource ? strippedCode(codeFolder, parts, join(stateFolder, "cache/runtime")) : codeFolder;
  const names = parts.map((name) => (existsSync(join(code, name)) ? name : `${name}.js`));
  return [
    // its "type": "module" is what makes node read our files as ECMAScript modules
    { hostPath: join(packageFolder, "package.json"), path: `${runtimeFolder}/package.json` },
    ...names.map((name) => ({ hostPath: join(code, name), path: `${runtimeFolder}/code/${name}` })),
    ...packages.map((name) => ({
      hostPath: packagePath(name),
      path: `${runtimeFolder}/node_modules/${name}`,
      // the program for the other machine comes with the package that wants it
      npmPackage: { name: name === claudePackage() ? claudeSdk : name, version: versionOf(packagePath(name)) },
    })),
  ];
}

/** Trusted roles run where the agent does, without its GPU. */
export function trustedMachine(machine: Machine | undefined): { machine?: Machine } {
  if (!machine) return {};
  const { regions, maxWaitMs } = machine;
  return { machine: { gpus: [], maxWaitMs, ...(regions && { regions }) } };
}

export const claudeSdk = "@anthropic-ai/claude-agent-sdk";

/** The npm package that holds the claude program for this machine. */
export function claudePackage(): string {
  return `${claudeSdk}-linux-${process.arch}`;
}

function versionOf(folder: string): string {
  return (JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as { version: string }).version;
}

/** A dependency's folder: in our own node_modules, or in that of the project that installed us. */
function packagePath(name: string): string {
  for (let folder = packageFolder; ; folder = dirname(folder)) {
    const path = join(folder, "node_modules", name);
    if (existsSync(path) || folder === "/") return path;
  }
}
