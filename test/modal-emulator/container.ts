/**
 * A process tree with a root of its own: namespaces by bubblewrap, the root by overlayfs over an image's layers. The mounts
 * live in a mount namespace that ends with the tree, also when this process is killed.
 */
import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { MemoryGroup } from "./memory-group.ts";

/** Folders with `root` and `usr`, the top one first. */
type Layers = readonly string[];

export interface ContainerOptions {
  layers: Layers;
  /** takes what is written over the layers; made when missing */
  writable: string;
  env: Readonly<Record<string, string>>;
  workdir: string;
  argv: readonly string[];
  /** path inside → path on the host */
  binds: readonly { path: string; hostPath: string; readOnly: boolean }[];
  /** of a network namespace; without one the host's network */
  networkNamespace?: string;
  hostname: string;
  /** 1 stdout, 2 stderr; called from the start on, so that nothing of a short life is lost */
  output(descriptor: number, data: Buffer): void;
  /** more than this ends a process of it */
  memoryMiB?: number;
}

export interface Container {
  readonly process: ChildProcessWithoutNullStreams;
  /** exit code of the main process, 128 + n after a signal; resolves when no process is left */
  readonly exited: Promise<number>;
  kill(): void;
  exec(argv: readonly string[], options: { env: Record<string, string>; workdir: string }): Exec;
  /** the pids, on the host, of its processes */
  pids(): Promise<number[]>;
  /** a file in the folder is open, or is a working directory */
  uses(path: string): Promise<boolean>;
  /** the kernel has killed a process of it for its memory */
  ranOutOfMemory(): boolean;
}

export interface Exec {
  readonly process: ChildProcessWithoutNullStreams;
  kill(): Promise<void>;
}

/** What Docker leaves to root, which Modal's runtime is close to. */
const capabilities =
  "chown dac_override fsetid fowner mknod net_raw setgid setuid setfcap setpcap net_bind_service sys_chroot kill audit_write".split(
    " ",
  );

/** $1 $2: options of the two overlays, $3: where the root is mounted; the rest is bwrap's. */
const mountAndEnter = `set -e
mount -t overlay overlay -o "$1" "$3"
mount -t overlay overlay -o "$2" "$3/usr"
shift 3
exec bwrap "$@"`;

export async function startContainer(options: ContainerOptions): Promise<Container> {
  const mountPoint = join(options.writable, "mounted");
  for (const name of ["root", "usr", "root-work", "usr-work", "mounted"])
    mkdirSync(join(options.writable, name), { recursive: true });
  const memory = options.memoryMiB === undefined ? undefined : MemoryGroup.create(options.memoryMiB);
  const inGroup = (words: readonly string[]) => memory?.joined(words) ?? words;
  const command = inGroup([
    ...(options.networkNamespace ? ["nsenter", `--net=${options.networkNamespace}`, "--"] : []),
    ...["unshare", "--mount", "--propagation", "private", "--", "/bin/sh", "-c", mountAndEnter, "sandbox"],
    overlay(options, "root", []),
    overlay(options, "usr", ["/usr"]),
    mountPoint,
    ...["--args", "4", "--", "/usr/bin/env", `--chdir=${options.workdir}`, ...options.argv],
  ]);
  const child = spawn(command[0] as string, command.slice(1), {
    cwd: "/",
    // bubblewrap stays in the sandbox as process 1, where its environment can be read: it gets the sandbox's as arguments
    env: { PATH: process.env["PATH"] },
    stdio: ["pipe", "pipe", "pipe", "pipe", "pipe"],
  });
  const exited = once(child, "close").then(([code, signal]: unknown[]) =>
    typeof code === "number" ? code : signal === "SIGKILL" ? 137 : 143,
  );
  child.stdin.on("error", () => {});
  let words = "";
  child.stdout.on("data", (data: Buffer) => options.output(1, data));
  child.stderr.on("data", (data: Buffer) => {
    if (words.length < 4096) words += data;
    options.output(2, data);
  });
  (child.stdio[4] as Writable).on("error", () => {}).end(bubblewrapArguments(options, mountPoint).join("\0"));
  const init = await initOf(child, exited);
  if (init === undefined) throw new Error(`the sandbox did not start: ${words}`);
  return containerOf(child as ChildProcessWithoutNullStreams, init, exited, options, memory);
}

function overlay(options: ContainerOptions, part: "root" | "usr", bottom: readonly string[]): string {
  const lower = [...options.layers.map((layer) => join(layer, part)), ...bottom];
  const work = join(options.writable, `${part}-work`);
  return `lowerdir=${lower.join(":")},upperdir=${join(options.writable, part)},workdir=${work}`;
}

function bubblewrapArguments(options: ContainerOptions, mountPoint: string): string[] {
  return [
    ...["--bind", mountPoint, "/", "--dev", "/dev", "--proc", "/proc", "--perms", "1777", "--tmpfs", "/dev/shm"],
    ...options.binds.flatMap((bind) => [bind.readOnly ? "--ro-bind" : "--bind", bind.hostPath, bind.path]),
    ...["--clearenv", ...Object.entries(options.env).flatMap(([name, value]) => ["--setenv", name, value])],
    ...["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", options.hostname],
    ...["--die-with-parent", "--new-session", "--info-fd", "3"],
    ...["--cap-drop", "ALL", ...capabilities.flatMap((name) => ["--cap-add", `CAP_${name.toUpperCase()}`])],
  ];
}

/** The host's pid of the sandbox's process 1. */
async function initOf(child: ChildProcess, exited: Promise<number>): Promise<number | undefined> {
  let info = "";
  const told = (async () => {
    for await (const chunk of child.stdio[3] as Readable) info += chunk;
  })();
  await Promise.race([told, exited]);
  const found = /"child-pid":\s*(\d+)/.exec(info)?.[1];
  if (!found) {
    await exited;
    return undefined;
  }
  await setUp(Number(found), exited);
  return Number(found);
}

/** bubblewrap tells the pid before it has made the root; process 1 starts the main process when it has. */
async function setUp(init: number, exited: Promise<number>): Promise<void> {
  let ended = false;
  void exited.then(() => (ended = true));
  while (!ended && (await childrenOf(init)).length === 0) await new Promise((resolve) => setTimeout(resolve, 2));
}

function containerOf(
  process: ChildProcessWithoutNullStreams,
  init: number,
  exited: Promise<number>,
  options: ContainerOptions,
  memory: MemoryGroup | undefined,
): Container {
  let ended = false;
  let ranOut = false;
  const gone = exited.then(async (code) => {
    ended = true;
    ranOut = memory?.ranOut() ?? false;
    await memory?.[Symbol.asyncDispose]();
    return code;
  });
  return {
    process,
    exited: gone,
    kill() {
      if (ended) return;
      killPid(init);
      process.kill("SIGKILL");
    },
    exec(argv, { env, workdir }) {
      const bounding = `-all,${capabilities.map((name) => `+${name}`).join(",")}`;
      const command = [
        ...["nsenter", "--target", String(init), "--mount", "--pid", "--ipc", "--uts", "--net", "--root", "--"],
        ...["/usr/bin/setpriv", `--bounding-set=${bounding}`, "/usr/bin/env", `--chdir=${workdir}`, ...argv],
      ];
      const [program = "", ...words] = memory?.joined(command) ?? command;
      const child = spawn(program, words, {
        ...{ cwd: "/", env: { ...options.env, ...env } },
        stdio: ["pipe", "pipe", "pipe"],
      });
      child.stdin.on("error", () => {});
      return {
        process: child,
        async kill() {
          for (const pid of await childrenOf(child.pid)) killPid(pid);
        },
      };
    },
    ranOutOfMemory: () => ranOut || (memory?.ranOut() ?? false),
    pids: () => pidsOfNamespace(init),
    async uses(path) {
      const inside = (target: string) => target === path || target.startsWith(`${path}/`);
      for (const pid of await pidsOfNamespace(init)) if ((await openPaths(pid)).some(inside)) return true;
      return false;
    },
  };
}

function killPid(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // it has ended by itself
  }
}

async function childrenOf(pid: number | undefined): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8").catch(() => "");
  return text.split(" ").filter(Boolean).map(Number);
}

async function pidsOfNamespace(init: number): Promise<number[]> {
  const namespaceOf = (pid: string | number) => readlink(`/proc/${pid}/ns/pid`).catch(() => undefined);
  const namespace = await namespaceOf(init);
  if (!namespace) return [];
  const all = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const those = await Promise.all(
    all.map(async (pid) => ((await namespaceOf(pid)) === namespace ? [Number(pid)] : [])),
  );
  return those.flat();
}

async function openPaths(pid: number): Promise<string[]> {
  const descriptors = await readdir(`/proc/${pid}/fd`).catch(() => []);
  const links = ["cwd", ...descriptors.map((name) => `fd/${name}`)];
  return Promise.all(links.map((link) => readlink(`/proc/${pid}/${link}`).catch(() => "")));
}
