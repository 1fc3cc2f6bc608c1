/** What bubblewrap is told, as a pure function: the sandbox's whole view of the machine is in this file. */
import type { Limits } from "../provider.ts";
import { insideUid } from "./identity.ts";

/** A host path placed in the sandbox. */
export interface Bind {
  hostPath: string;
  path: string;
  writable: boolean;
  /** left out when the host has no such path */
  optional?: boolean;
}

export interface BwrapOptions {
  hostname: string;
  network: "own" | "host";
  binds: readonly Bind[];
  /** file descriptors that carry a secret each, placed at /run/secrets/<name> */
  secretFds: ReadonlyMap<string, number>;
  infoFd: number;
  workingDirectory: string;
  limits: Pick<Limits, "memoryMiB">;
}

const devices = ["null", "zero", "full", "random", "urandom"];
const mebibyte = 1024 * 1024;

/**
 * The arguments for `bwrap --args FD`.
 * /dev is made of single nodes: bwrap's own --dev needs a second user namespace for devpts, which exec could not enter.
 */
export function bwrapArguments(options: BwrapOptions): string[] {
  return [
    ...namespaces(options),
    ...systemFolders(),
    ...deviceFolder(options.limits.memoryMiB),
    ...["--proc", "/proc"],
    ...["--perms", "0755", "--size", String(16 * mebibyte), "--tmpfs", "/run"],
    ...["--perms", "0700", "--dir", "/run/modal-sb"],
    ...[...options.secretFds].flatMap(([name, fd]) => [
      "--perms",
      "0400",
      "--file",
      String(fd),
      `/run/secrets/${name}`,
    ]),
    ...options.binds.flatMap(bindArguments),
    ...["--remount-ro", "/"],
    ...["--chdir", options.workingDirectory],
  ];
}

function namespaces(options: BwrapOptions): string[] {
  return [
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup",
    ...(options.network === "own" ? ["--unshare-net"] : []),
    ...["--uid", String(insideUid), "--gid", String(insideUid)],
    ...["--hostname", options.hostname],
    ...["--cap-drop", "ALL"],
    "--die-with-parent",
    "--new-session",
    ...["--info-fd", String(options.infoFd)],
  ];
}

/** The machine's programs and libraries, as every sandbox has them. */
export function systemFolders(): string[] {
  return [
    ...["--ro-bind", "/usr", "/usr"],
    ...["bin", "sbin", "lib", "lib32", "lib64"].flatMap((name) => mergedUsrFolder(name)),
  ];
}

/** /bin and its like are links into /usr on every Debian and Ubuntu of today; bwrap skips one that the host lacks. */
function mergedUsrFolder(name: string): string[] {
  return ["--ro-bind-try", `/${name}`, `/${name}`];
}

function deviceFolder(memoryMiB: number): string[] {
  return [
    ...["--perms", "0755", "--size", String(mebibyte), "--tmpfs", "/dev"],
    ...devices.flatMap((name) => ["--dev-bind", `/dev/${name}`, `/dev/${name}`]),
    ...["--symlink", "/proc/self/fd", "/dev/fd"],
    ...["stdin", "stdout", "stderr"].flatMap((name, fd) => ["--symlink", `/proc/self/fd/${fd}`, `/dev/${name}`]),
    ...["--perms", "1777", "--size", String(Math.floor(memoryMiB / 4) * mebibyte), "--tmpfs", "/dev/shm"],
    ...["--remount-ro", "/dev"],
  ];
}

function bindArguments(bind: Bind): string[] {
  const kind = `--${bind.writable ? "bind" : "ro-bind"}${bind.optional ? "-try" : ""}`;
  return [kind, bind.hostPath, bind.path];
}
