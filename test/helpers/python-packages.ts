/** Packages from PyPI for tests, installed once for this user. */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** The folder for PYTHONPATH. Another list of packages needs another name. */
export function packagesFolder(name: string): string {
  return join(homedir(), ".cache/modal-sb-test", name);
}

/** A string says why the packages cannot be installed. */
export async function installPackages(name: string, packages: readonly string[]): Promise<string | undefined> {
  const folder = packagesFolder(name);
  if (existsSync(folder)) return undefined;
  const draft = `${folder}.${process.pid}`;
  mkdirSync(draft, { recursive: true });
  try {
    await run("python3", ["-m", "pip", "install", "-q", "--target", draft, ...packages]);
    renameSync(draft, folder);
    return undefined;
  } catch (error) {
    rmSync(draft, { recursive: true, force: true });
    // another test has installed them meanwhile
    return existsSync(folder) ? undefined : `${name} cannot be installed: ${(error as Error).message}`;
  }
}
