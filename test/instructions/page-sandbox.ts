/** A place like the agent's sandbox: its paths, its environment, no network, nothing to write to but its own folders. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { promisify } from "node:util";
import type { Outcome } from "../helpers/run-inside.ts";
import { instructions } from "./skill-pages.ts";

const tools = join(import.meta.dirname, "pages");
const toolsInside = "/run/page-tools";
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
  const python = await pythonPath();
  const env = {
    PATH: [dirname(python), join(packages, "bin"), "/usr/local/bin:/usr/bin:/bin"].join(":"),
    HOME: "/data/home",
    HF_HOME: "/data/hf-cache",
    HF_HUB_OFFLINE: "1",
    TRACKIO_DIR: "/data/trackio",
    TRACKIO_STORAGE_MODE: "sqlite",
    PYTHONPATH: packages,
    PYTHONDONTWRITEBYTECODE: "1",
    OMP_NUM_THREADS: "1",
    ...environment,
  };
  const child = spawn("bwrap", [...view(folder), python, join(toolsInside, tool), ...argv], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exited = once(child, "exit");
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const [code] = await exited;
  return { code, stdout, stderr };
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

/** The Python that the packages were installed with, and no shim of a version manager. */
async function pythonPath(): Promise<string> {
  const { stdout } = await promisify(execFile)("python3", ["-c", "import sys; print(sys.executable)"]);
  return stdout.trim();
}
