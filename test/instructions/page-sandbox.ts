/** A place like the agent's sandbox: its paths, its environment, no network, nothing to write to but its own folders. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, readdirSync, readlinkSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { promisify } from "node:util";
import type { Outcome } from "../helpers/run-inside.ts";
import { instructions } from "./skill-pages.ts";

const tools = join(import.meta.dirname, "pages");
const toolsInside = "/run/page-tools";
const bubblewrap = "bwrap";
const venv = "/data/venv";
/** What the sandbox has of its own; the rest of the machine is shown as it is, for Python may lie anywhere. */
const own = ["app", "data", "trackio", "tmp", "proc", "dev", "run"];

export interface PageSandbox {
  /** of the host; `app`, `data`, `trackio` are folders in it, at / inside */
  folder: string;
  packages: string;
  environment?: Record<string, string>;
}

/** Runs one of `pages/*.py` with arguments, to its end. */
export async function pythonAtHome(
  { folder, packages, environment = {} }: PageSandbox,
  tool: string,
  argv: readonly string[],
): Promise<Outcome> {
  const python = await realPython();
  makeEnvironment(folder, packages, python);
  const env = {
    PATH: `${venv}/bin:/usr/local/bin:/usr/bin:/bin`,
    HOME: "/data/home",
    HF_HOME: "/data/hf-cache",
    HF_HUB_OFFLINE: "1",
    TRACKIO_DIR: "/data/trackio",
    TRACKIO_STORAGE_MODE: "sqlite",
    PYTHONDONTWRITEBYTECODE: "1",
    OMP_NUM_THREADS: "1",
    ...environment,
  };
  const argumentsOfBwrap = [...view(folder), "--ro-bind", packages, sitePackages(python)];
  const child = spawn(bubblewrap, [...argumentsOfBwrap, `${venv}/bin/python3`, join(toolsInside, tool), ...argv], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exited = once(child, "exit");
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const [code] = await exited;
  return { code, stdout, stderr };
}

interface Python {
  path: string;
  /** such as 3.12 */
  version: string;
}

/** The Python that the packages were installed with, and no shim of a version manager. */
async function realPython(): Promise<Python> {
  const code = "import sys; print(sys.executable); print('%d.%d' % sys.version_info[:2])";
  const { stdout } = await promisify(execFile)("python3", ["-c", code]);
  const [path = "", version = ""] = stdout.split("\n");
  return { path, version };
}

/** As the agent's sandbox has it. dill, which datasets hashes with, takes packages outside of it for a user's own code. */
function makeEnvironment(folder: string, packages: string, { path, version }: Python): void {
  const bin = join(folder, venv, "bin");
  mkdirSync(bin, { recursive: true });
  mkdirSync(join(folder, sitePackages({ path, version })), { recursive: true });
  writeFileSync(join(folder, venv, "pyvenv.cfg"), `home = ${dirname(path)}\nversion = ${version}\n`);
  try {
    symlinkSync(path, join(bin, "python3"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return;
    throw error;
  }
  // commands name the Python that installed them in their first line
  for (const name of readdirSync(join(packages, "bin"))) {
    const command = join(sitePackages({ path, version }), "bin", name);
    writeFileSync(join(bin, name), `#!/bin/sh\nexec ${venv}/bin/python3 ${command} "$@"\n`);
    chmodSync(join(bin, name), 0o755);
  }
}

function sitePackages({ version }: Python): string {
  return `${venv}/lib/python${version}/site-packages`;
}

function view(folder: string): string[] {
  const rest = readdirSync("/", { withFileTypes: true }).filter(({ name }) => !own.includes(name));
  for (const name of ["app", "data/home", "trackio"]) mkdirSync(join(folder, name), { recursive: true });
  return [
    ...["--unshare-user", "--unshare-net", "--unshare-pid", "--die-with-parent", "--new-session"],
    ...rest.flatMap((entry) =>
      entry.isSymbolicLink()
        ? ["--symlink", readlinkSync(`/${entry.name}`), `/${entry.name}`]
        : ["--ro-bind", `/${entry.name}`, `/${entry.name}`],
    ),
    ...["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run"],
    ...["--ro-bind", tools, toolsInside],
    ...["app", "data", "trackio"].flatMap((name) => ["--bind", join(folder, name), `/${name}`]),
    ...["--ro-bind", instructions, "/app/.claude", "--chdir", "/app"],
  ];
}
