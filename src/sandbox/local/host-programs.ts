import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import { SandboxError } from "../../errors.ts";

/** Debian package that brings each program the provider runs on the host. */
const packageOfProgram = {
  bwrap: "bubblewrap",
  socat: "socat",
  nsenter: "util-linux",
  setpriv: "util-linux",
  prlimit: "util-linux",
  choom: "util-linux",
  unshare: "util-linux",
  mount: "mount",
  env: "coreutils",
  sh: "dash",
} as const;

export type ProgramName = keyof typeof packageOfProgram;
export type HostPrograms = Readonly<Record<ProgramName, string>>;

/** The absolute path of `name` in `path`, then in the system folders; undefined when it is nowhere. */
export function findProgram(name: string, path: string | undefined): string | undefined {
  const folders = [...(path ?? "").split(":"), "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"];
  return folders
    .filter((folder) => folder.startsWith("/"))
    .map((folder) => join(folder, name))
    .find(isExecutable);
}

/** Names of the programs that are not installed. */
export function missingPrograms(path: string | undefined): ProgramName[] {
  return (Object.keys(packageOfProgram) as ProgramName[]).filter((name) => findProgram(name, path) === undefined);
}

/** The command that installs the packages of `programs` on Debian and Ubuntu. */
export function installCommand(programs: readonly ProgramName[]): string {
  const packages = [...new Set(programs.map((name) => packageOfProgram[name]))];
  return `sudo apt-get install -y ${packages.join(" ")}`;
}

/** Every program's path, or a SandboxError that names the missing ones and how to install them. */
export function findHostPrograms(path: string | undefined): HostPrograms {
  const missing = missingPrograms(path);
  if (missing.length > 0) {
    throw new SandboxError(`The local provider needs programs that are not installed: ${missing.join(", ")}`, {
      hint: installCommand(missing),
    });
  }
  const names = Object.keys(packageOfProgram) as ProgramName[];
  return Object.fromEntries(names.map((name) => [name, findProgram(name, path)])) as unknown as HostPrograms;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    // not there, or not executable: the next folder is asked
    return false;
  }
}
