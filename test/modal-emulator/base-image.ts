/**
 * What `FROM` names without a registry: debian, python and node tags, whatever their version, are this machine's /usr with a
 * fresh root round it. Nothing of /home, /root or of the host's other folders is in it.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { chmod, copyFile, cp, link, mkdir, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { ImageSettings } from "./dockerfile.ts";

const run = promisify(execFile);

/** Part of every image's key: raised when images are built in another way. */
const builderVersion = 3;

const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

export type Family = "debian" | "python" | "node";

/** undefined for what this registry does not have */
export function familyOf(tag: string): Family | undefined {
  return /^(?:docker\.io\/)?(?:library\/)?(debian|python|node)(?::|@|$)/.exec(tag)?.[1] as Family | undefined;
}

export function baseSettings(family: Family): ImageSettings {
  const env = { PATH: searchPath, ...(family === "python" && { LANG: "C.UTF-8" }) };
  return { env, workdir: "/", entrypoint: family === "node" ? ["docker-entrypoint.sh"] : [] };
}

/** Changes when the machine's packages do, for the layers above rest on them. */
export async function baseKey(): Promise<string> {
  const hash = createHash("sha256").update(`${builderVersion} ${process.version}`);
  for (const path of ["/var/lib/dpkg/status", "/usr/lib/node_modules", "/usr/local/bin"])
    hash.update(String((await stat(path).catch(() => undefined))?.mtimeMs));
  return hash.digest("hex");
}

/** Writes the layer of a family, which is also the lowest one. */
export async function writeBaseLayer(folder: string, family: Family): Promise<void> {
  const root = join(folder, "root");
  const usr = join(folder, "usr");
  await Promise.all([mkdir(root, { recursive: true }), mkdir(usr, { recursive: true })]);
  await writeRoot(root);
  if (family === "python") await writePython(usr);
  if (family === "node") await writeNode(usr);
}

async function writeRoot(root: string): Promise<void> {
  const folders =
    "usr dev proc sys run root home mnt media opt srv var/tmp var/log var/cache/apt/archives/partial var/lib/apt/lists/partial";
  for (const name of folders.split(" ")) await mkdir(join(root, name), { recursive: true });
  for (const name of ["tmp", "var/tmp"]) {
    await mkdir(join(root, name), { recursive: true });
    await chmod(join(root, name), 0o1777);
  }
  await chmod(join(root, "root"), 0o700);
  for (const name of ["bin", "sbin", "lib", "lib64"]) await symlink(`usr/${name}`, join(root, name));
  await symlink("/run", join(root, "var/run"));
  await run("cp", ["-a", "/etc", join(root, "etc")]);
  const private_ =
    "shadow shadow- gshadow gshadow- sudoers ssh machine-id pip.conf npmrc apt/auth.conf apt/auth.conf.d hostname";
  for (const name of private_.split(" ")) await rm(join(root, "etc", name), { recursive: true, force: true });
  await writeFile(join(root, "etc/hostname"), "modal\n");
  await writeFile(join(root, "etc/hosts"), "127.0.0.1 localhost\n");
  await cp("/var/lib/dpkg", join(root, "var/lib/dpkg"), { recursive: true, preserveTimestamps: true }).catch(() => {});
}

/** The official image has its programs in /usr/local, and a pip that may install. */
async function writePython(usr: string): Promise<void> {
  await mkdir(join(usr, "local/bin"), { recursive: true });
  for (const name of ["python", "python3"]) await symlink("/usr/bin/python3", join(usr, "local/bin", name));
  const { stdout } = await run("/usr/bin/python3", ["-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"]);
  const marker = join(usr, stdout.trim().replace(/^\/usr\//, ""), "EXTERNALLY-MANAGED");
  await mkdir(join(marker, ".."), { recursive: true });
  // overlayfs's sign for a file that a layer takes away
  await run("mknod", [marker, "c", "0", "0"]);
}

/** The Node that runs this, which is what the official image's tag would have given. */
async function writeNode(usr: string): Promise<void> {
  const folder = join(usr, "local/bin");
  await mkdir(folder, { recursive: true });
  const program = join(folder, "node");
  await link(process.execPath, program).catch(() => copyFile(process.execPath, program));
  await symlink("node", join(folder, "nodejs"));
  const script = `#!/bin/sh
set -e
if [ "\${1#-}" != "\${1}" ] || [ -z "$(command -v "\${1}")" ] || { [ -f "\${1}" ] && ! [ -x "\${1}" ]; }; then
  set -- node "$@"
fi
exec "$@"
`;
  await writeFile(join(folder, "docker-entrypoint.sh"), script, { mode: 0o755 });
}
