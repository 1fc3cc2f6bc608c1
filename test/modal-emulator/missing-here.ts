import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Makes the kind of mount that a sandbox needs, where it ends with the command. */
const tryMount = `cd "$0" && mkdir lower upper work merged &&
mount -t overlay overlay -o lowerdir=/usr:lower,upperdir=upper,workdir=work merged`;

/** Why this machine cannot run the emulator; undefined when it can. */
export async function missingHere(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return "the emulator of Modal makes mounts and network namespaces: it needs root";
  for (const program of ["bwrap", "unshare", "nsenter", "mount", "mknod", "ip", "openssl", "perl", "python3"])
    if (!(await run("/bin/sh", ["-c", `command -v ${program}`]).catch(() => undefined)))
      return `the emulator of Modal needs ${program}`;
  const folder = await mkdtemp(join(tmpdir(), "modal-emulator-try-"));
  try {
    await run("unshare", ["--mount", "/bin/sh", "-c", tryMount, folder]);
    return undefined;
  } catch (error) {
    return `the emulator of Modal cannot make overlay mounts here: ${(error as Error).message.trim()}`;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
