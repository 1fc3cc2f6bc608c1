/** Python as in the agent's sandbox: no token, no network, folders of its own, the instructions' scripts as they are. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { Outcome } from "../helpers/run-inside.ts";

const scripts = join(import.meta.dirname, "../../instructions/scripts");
export const setupScript = scriptFile("setup_trackio.py");

export function scriptFile(name: string): string {
  return join(scripts, name);
}

/** What stands for the sandbox's folders, below one folder. */
export function foldersIn(folder: string) {
  return { data: join(folder, "data"), trackio: join(folder, "trackio"), databases: join(folder, "databases") };
}

interface Setting {
  folder: string;
  /** folder of the packages that Python finds */
  packages: string | undefined;
  environment?: Record<string, string>;
}

/** Runs Python to its end in a network namespace without interfaces. */
export async function pythonInside(
  { folder, packages, environment = {} }: Setting,
  argv: readonly string[],
): Promise<Outcome> {
  const { data, trackio, databases } = foldersIn(folder);
  const env = {
    PATH: process.env["PATH"],
    HOME: folder,
    HF_HOME: join(folder, "hf-cache"),
    TRACKIO_DIR: databases,
    TRACKIO_STORAGE_MODE: "sqlite",
    MODAL_SB_DATA_FOLDER: data,
    MODAL_SB_TRACKIO_FOLDER: trackio,
    PYTHONPATH: [scripts, ...(packages === undefined ? [] : [packages])].join(":"),
    PYTHONDONTWRITEBYTECODE: "1",
    ...environment,
  };
  const child = spawn("unshare", ["--map-root-user", "--net", "python3", ...argv], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exited = once(child, "exit");
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const [code] = await exited;
  return { code, stdout, stderr };
}

/** Runs a program; its last line of output is JSON. Throws what it said when it failed. */
export async function answerOf(setting: Setting, code: string): Promise<unknown> {
  const outcome = await pythonInside(setting, ["-c", code]);
  if (outcome.code !== 0) throw new Error(`${outcome.stderr}\n${outcome.stdout}`);
  return JSON.parse(outcome.stdout.trim().split("\n").at(-1) ?? "");
}
