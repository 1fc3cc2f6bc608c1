import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, realpathSync, statSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { findProgram } from "./host-programs.ts";

/** The Python that sandboxes get: the one that the host's PATH finds. */
export interface Python {
  executable: string;
  /** folder that holds the whole installation, e.g. /usr or ~/.pyenv/versions/3.11.7 */
  prefix: string;
}

/**
 * Finds Python, or undefined. Version managers put scripts on the PATH: those are asked where their Python is, once,
 * and the answer is kept in `cacheFolder` for as long as that script is unchanged.
 */
export function findPython(path: string | undefined, cacheFolder: string): Python | undefined {
  const found = findProgram("python3", path);
  if (found === undefined) return undefined;
  const real = realpathSync(found);
  if (real.startsWith("/usr/")) return { executable: real, prefix: "/usr" };
  const python = cached(cacheFolder, `${real} ${statSync(real).mtimeMs} ${path}`, () => ask(found, path));
  if (python && isWholeHome(python.prefix)) return systemPython();
  return python ?? systemPython();
}

function ask(executable: string, path: string | undefined): Python | undefined {
  const script = "import sys, os; print(os.path.realpath(sys.executable)); print(os.path.realpath(sys.base_prefix))";
  const answer = spawnSync(executable, ["-I", "-c", script], {
    encoding: "utf8",
    env: { PATH: path, HOME: homedir() },
    timeout: 10_000,
  });
  const [real, prefix] = answer.status === 0 ? answer.stdout.trim().split("\n") : [];
  return real && prefix ? { executable: real, prefix } : undefined;
}

function cached(folder: string, key: string, make: () => Python | undefined): Python | undefined {
  const path = join(folder, "python.json");
  try {
    const kept = JSON.parse(readFileSync(path, "utf8")) as { key: string; python: Python };
    if (kept.key === key && statSync(kept.python.executable).isFile()) return kept.python;
  } catch {
    // no answer kept yet, or one that no longer holds
  }
  const python = make();
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  if (python) writeFileSync(path, JSON.stringify({ key, python }));
  return python;
}

/** An installation that spans the home folder would show all of it. */
function isWholeHome(prefix: string): boolean {
  return prefix === "/" || `${homedir()}/`.startsWith(`${prefix}/`);
}

function systemPython(): Python | undefined {
  const executable = findProgram("python3", undefined);
  return executable === undefined ? undefined : { executable: realpathSync(executable), prefix: "/usr" };
}
