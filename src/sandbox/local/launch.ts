/** The chain of programs that turns a sandbox's parts into a running bubblewrap, and into a process beside it. */
import { type Stats, statSync } from "node:fs";
import { dirname } from "node:path";
import { SandboxError } from "../../errors.ts";
import type { Limits, SandboxSpec } from "../provider.ts";
import type { Bind } from "./bwrap-arguments.ts";
import type { HostPrograms } from "./host-programs.ts";
import type { Identity } from "./identity.ts";

const mebibyte = 1024 * 1024;
/** in the kernel's scale to 1000: when the machine runs out of memory, sandboxes go first */
const outOfMemoryScore = 500;

/**
 * Runs in the sandbox before the main process. It opens the TCP doors, says that it is there, and goes on only when the
 * host answers: a host that died meanwhile cannot leave a sandbox behind. fd 5 is that channel.
 * Arguments: number of doors, `port socket` for each, then the command.
 */
const insideScript = `doors=$1; shift
while [ "$doors" -gt 0 ]; do
  socat "TCP-LISTEN:$1,bind=127.0.0.1,fork,reuseaddr" "UNIX-CONNECT:$2" 3<&- 4<&- 5<&- &
  shift 2; doors=$((doors - 1))
done
echo ready >&5
read -r go <&5 || exit 1
exec 3<&- 4<&- 5<&-
exec "$@"`;

/**
 * Runs as root in a mount namespace of its own: places what the unprivileged uid could not reach by path (such as a
 * checkout below /root) on a staging folder. One mount for all: each program that is started costs milliseconds.
 * Arguments: folder, the table of mounts, folders to make, `--`, files to make, `--`, and the next program.
 */
const stageScript = `set -e
stage=$1; table=$2; shift 2; folders=
mount -t tmpfs -o mode=0755,size=1m modal-sb "$stage"
cd "$stage"
while [ "$1" != -- ]; do folders="$folders $1"; shift; done; shift
mkdir -p $folders
while [ "$1" != -- ]; do : > "$1"; shift; done; shift
mount --all --fstab "$table"
cd /
exec "$@"`;

/** A TCP port on the sandbox's 127.0.0.1 that leads to a unix socket in the sandbox. */
export interface Door {
  port: number;
  socketPath: string;
}

/** File descriptors above the standard ones, as the chain expects them. */
export const launchFds = { args: 3, info: 4, channel: 5, firstSecret: 6 } as const;

export interface LaunchPlan {
  argv: string[];
  /** the binds with staged host paths in place of unreachable ones */
  binds: Bind[];
  /** what the file `stageTable` must hold, in the form of fstab(5) */
  stageTable: string;
}

/** Whose network a sandbox has. */
export function networkOf(spec: Pick<SandboxSpec, "egress">): "own" | "host" {
  return spec.egress.kind === "host" ? "host" : "own";
}

/** The host command that starts the sandbox, for `command` as its main process. */
export function launchPlan(options: {
  programs: HostPrograms;
  identity: Identity;
  binds: readonly Bind[];
  stageFolder: string;
  stageTable: string;
  limits: Limits;
  doors: readonly Door[];
  command: readonly string[];
}): LaunchPlan {
  const { programs, identity, limits } = options;
  const staged = identity.fromRoot ? options.binds.filter(needsStaging) : [];
  const inside = [
    ...["/usr/bin/prlimit", `--nproc=${limits.processes}`, "--"],
    ...["/bin/sh", "-c", insideScript, "sh", String(options.doors.length)],
    ...options.doors.flatMap((door) => [String(door.port), door.socketPath]),
    ...options.command,
  ];
  const bwrap = [
    ...confine(programs, identity, limits),
    ...[programs.bwrap, "--args", String(launchFds.args), "--"],
    ...inside,
  ];
  return {
    argv: staged.length === 0 ? bwrap : [...stage(options, staged), ...bwrap],
    binds: options.binds.map((bind) => {
      const index = staged.indexOf(bind);
      return index === -1 ? bind : { ...bind, hostPath: `${options.stageFolder}/${index}` };
    }),
    stageTable: staged
      .map((bind, index) => `${escaped(bind.hostPath)} ${escaped(`${options.stageFolder}/${index}`)} none bind 0 0\n`)
      .join(""),
  };
}

/** The host command that runs `argv` in the namespaces of the sandbox whose first process is `pid`. */
export function enterArguments(options: {
  programs: HostPrograms;
  identity: Identity;
  pid: number;
  network: "own" | "host";
  limits: Pick<Limits, "fileSizeMiB" | "processes">;
  workingDirectory: string;
  argv: readonly string[];
}): string[] {
  const { programs, limits } = options;
  return [
    ...confine(programs, options.identity, limits),
    ...[programs.nsenter, "--target", String(options.pid), "--preserve-credentials"],
    ...["--user", "--mount", "--pid", "--ipc", "--uts", "--cgroup"],
    ...(options.network === "own" ? ["--net", "--"] : ["--"]),
    // whoever enters a user namespace has all its capabilities until they are dropped
    ...["/usr/bin/setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs"],
    ...["--pdeathsig", "KILL", "/usr/bin/prlimit", `--nproc=${limits.processes}`, "--"],
    ...["/usr/bin/env", "-C", options.workingDirectory, "--"],
    ...options.argv,
  ];
}

function confine(programs: HostPrograms, identity: Identity, limits: Pick<Limits, "fileSizeMiB">): string[] {
  const drop = [programs.setpriv, "--reuid", String(identity.uid), "--regid", String(identity.gid), "--clear-groups"];
  return [
    ...(identity.fromRoot ? drop : []),
    ...[programs.prlimit, `--fsize=${limits.fileSizeMiB * mebibyte}`, "--core=0", "--"],
    ...[programs.choom, "-n", String(outOfMemoryScore), "--"],
  ];
}

function stage(
  options: { programs: HostPrograms; stageFolder: string; stageTable: string },
  binds: readonly Bind[],
): string[] {
  const { programs, stageFolder, stageTable } = options;
  const isFolder = (bind: Bind) => statOf(bind.hostPath, bind).isDirectory();
  const names = (wanted: boolean) => binds.flatMap((bind, index) => (isFolder(bind) === wanted ? [String(index)] : []));
  return [
    ...[programs.unshare, "--mount", "--propagation", "private", "--"],
    ...[programs.sh, "-c", stageScript, "sh", stageFolder, stageTable],
    // a first folder, so that there is one to make
    ...["empty", ...names(true), "--", ...names(false), "--"],
  ];
}

/** A path as a field of fstab. */
function escaped(path: string): string {
  return path.replace(/[\s\\#]/g, (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, "0")}`);
}

/** True when a folder above the path is closed to other users, so that the sandbox's uid could not walk there. */
function needsStaging(bind: Bind): boolean {
  if (bind.optional) return false;
  for (let folder = dirname(bind.hostPath); ; folder = dirname(folder)) {
    if ((statOf(folder, bind).mode & 0o001) === 0) return true;
    if (folder === "/") return false;
  }
}

/** Another sandbox's folder, such as the proxy's sockets, goes with that sandbox: also while this one is made. */
function statOf(path: string, bind: Bind): Stats {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (!stats) throw new SandboxError(`${path}, which the sandbox would have as ${bind.path}, is gone`);
  return stats;
}
