/**
 * Installs what the benchmark compares with, outside the tree and outside the system: Debian packages are unpacked, not
 * installed. What is there once is used again; another version is another folder.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const cache = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "modal-sb-bench");

/** Folder with `node_modules`; packages as "name@version". */
export function npmFolder(name: string, packages: readonly string[]): Promise<string> {
  return installed(name, packages, async (folder) => {
    writeFileSync(join(folder, "package.json"), '{"private":true}');
    // a package's install script is a stranger's program, and none of these needs one
    await run("npm", ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--save-exact", ...packages], {
      cwd: folder,
    });
  });
}

/** Folder of a virtual environment; packages as "name==version". */
export function pythonFolder(name: string, packages: readonly string[]): Promise<string> {
  return installed(name, packages, async (folder) => {
    await run("python3", ["-m", "venv", folder]);
    await run(join(folder, "bin/pip"), ["install", "--quiet", "--disable-pip-version-check", ...packages], {
      maxBuffer: 64 * 1024 * 1024,
    });
  });
}

/** Folder under which the packages' files lie as they would under the root; packages as "name=version". */
export function debianFolder(name: string, packages: readonly string[]): Promise<string> {
  return installed(name, packages, async (folder) => {
    const download = () => run("apt-get", ["download", ...packages], { cwd: folder });
    await download().catch(async () => {
      await run("apt-get", ["update"]);
      await download();
    });
    for (const file of readdirSync(folder).filter((entry) => entry.endsWith(".deb"))) {
      await run("dpkg", ["-x", join(folder, file), folder]);
    }
  });
}

async function installed(
  name: string,
  packages: readonly string[],
  install: (folder: string) => Promise<void>,
): Promise<string> {
  const version = createHash("sha256").update(packages.join("\n")).digest("hex").slice(0, 12);
  const folder = join(cache, `${name}-${version}`);
  const mark = join(folder, ".complete");
  if (existsSync(mark)) return folder;
  console.error(`installing ${packages.join(" ")}`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  await install(folder);
  writeFileSync(mark, "");
  return folder;
}
