/** What the local provider needs from this machine, found by trying it. */
import { spawnSync } from "node:child_process";
import { accessSync, constants, readFileSync } from "node:fs";
import { SandboxError } from "../../errors.ts";
import type { Requirement } from "../provider.ts";
import { systemFolders } from "./bwrap-arguments.ts";
import { findProgram, installCommand, missingPrograms } from "./host-programs.ts";
import { identityFor } from "./identity.ts";
import { readPackageIndexes } from "./package-indexes.ts";
import { findPython } from "./python.ts";
import type { StateFolders } from "./state-folders.ts";

type Environment = Readonly<Record<string, string | undefined>>;

const installPython = "sudo apt-get install -y python3";

/** The error of a session on a machine without Python. */
export function pythonMissing(): SandboxError {
  return new SandboxError("The local provider needs Python, and no python3 was found", { hint: installPython });
}

/** Looks at programs, user namespaces, Python, the state folder and the package index settings, in that order. */
export async function checkRequirements(environment: Environment, folders: StateFolders): Promise<Requirement[]> {
  const missing = missingPrograms(environment["PATH"]);
  return [
    missing.length === 0
      ? { name: "programs", state: "ok", detail: "bubblewrap, socat and util-linux are installed" }
      : {
          name: "programs",
          state: "missing",
          detail: `not installed: ${missing.join(", ")}`,
          remedy: installCommand(missing),
        },
    missing.includes("bwrap")
      ? { name: "user namespaces", state: "warning", detail: "not tried: bubblewrap is not installed" }
      : tryNamespaces(environment),
    pythonRequirement(environment, folders),
    stateFolderRequirement(folders),
    ...readPackageIndexes(environment).warnings.map(
      (detail): Requirement => ({
        name: "package index",
        state: "warning",
        detail,
        remedy: "use a mirror that needs none",
      }),
    ),
  ];
}

function tryNamespaces(environment: Environment): Requirement {
  const name = "user namespaces";
  const identity = identityFor("agent");
  const bwrap = findProgram("bwrap", environment["PATH"]) as string;
  // by name, as a sandbox asks for them: --unshare-all goes on without the user namespace
  const namespaces = ["user", "pid", "ipc", "uts", "cgroup", "net"].map((kind) => `--unshare-${kind}`);
  // not the whole of "/": bwrap fails where a mount goes away while it looks, and programs make and end mounts in /run
  const probe = [bwrap, ...namespaces, "--die-with-parent", ...systemFolders(), "--proc", "/proc", "true"];
  const setpriv = findProgram("setpriv", environment["PATH"]) ?? "setpriv";
  const drop = [setpriv, "--reuid", `${identity.uid}`, "--regid", `${identity.gid}`, "--clear-groups", "--"];
  const [program, ...rest] = identity.fromRoot ? [...drop, ...probe] : probe;
  const result = spawnSync(program as string, rest, { encoding: "utf8", env: {}, timeout: 10_000 });
  if (result.status === 0) return { name, state: "ok", detail: "a sandbox with a network of its own could be made" };
  const words = (result.stderr || result.error?.message || "no answer").trim().split("\n")[0];
  return { name, state: "missing", detail: `forbidden on this machine: ${words}`, remedy: namespaceRemedy() };
}

/** The kernel's switches that forbid namespaces to ordinary users, each with the command that opens it. */
function namespaceRemedy(): string {
  const switches: [path: string, closed: string, remedy: string][] = [
    ["/proc/sys/user/max_user_namespaces", "0", "sudo sysctl user.max_user_namespaces=15000"],
    ["/proc/sys/kernel/unprivileged_userns_clone", "0", "sudo sysctl kernel.unprivileged_userns_clone=1"],
    [
      "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
      "1",
      "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, or give bwrap an AppArmor profile with `userns`",
    ],
  ];
  const closed = switches.find(([path, value]) => readOrEmpty(path).trim() === value);
  if (closed) return closed[2];
  return "in a container, allow user namespaces and mounts: docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined";
}

function pythonRequirement(environment: Environment, folders: StateFolders): Requirement {
  const python = findPython(environment["PATH"], folders.cache);
  if (!python) return { name: "python", state: "missing", detail: "no python3 was found", remedy: installPython };
  return { name: "python", state: "ok", detail: python.executable };
}

function stateFolderRequirement(folders: StateFolders): Requirement {
  const name = "state folder";
  try {
    accessSync(folders.volumes, constants.W_OK);
    return { name, state: "ok", detail: folders.volumes };
  } catch {
    const remedy = "choose another with XDG_STATE_HOME or the stateFolder setting";
    return { name, state: "missing", detail: `${folders.volumes} cannot be written`, remedy };
  }
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // this kernel has no such switch
    return "";
  }
}
