/** Which of the workspace's sandboxes and volumes are this installation's: by a random id, in every tag and name. */
import { createHash, randomBytes } from "node:crypto";
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { messageOf, SandboxError } from "../../errors.ts";

const idPattern = /^[0-9a-f]{32}$/;
/** Modal's longest name of a sandbox */
const maxNameLength = 63;

export interface Installation {
  id: string;
  /** the name that Modal gets for a sandbox called `name` */
  sandboxName(name: string): string;
  volumeName(name: string): string;
}

/** Reads the id of `<stateFolder>/modal/installation`, or makes one. Throws a SandboxError when it cannot be kept. */
export function openInstallation(stateFolder: string): Installation {
  const path = join(stateFolder, "modal/installation");
  try {
    const id = readId(path) ?? makeId(path);
    const mark = id.slice(0, 6);
    return {
      id,
      sandboxName: (name) => fitted(`${name}-${mark}`),
      volumeName: (name) => fitted(`modal-sb-${mark}-${name}`),
    };
  } catch (error) {
    throw new SandboxError(`Cannot keep this installation's id in "${path}": ${messageOf(error)}`, {
      hint: "choose another place with XDG_STATE_HOME or the stateFolder setting",
      cause: error,
    });
  }
}

function readId(path: string): string | undefined {
  try {
    const id = readFileSync(path, "utf8").trim();
    if (idPattern.test(id)) return id;
    throw new Error("it holds something else; its sandboxes could not be told from others'");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** Whole or not at all, and one for all processes: the first link wins. */
function makeId(path: string): string {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const draft = `${path}.${process.pid}.${randomBytes(4).toString("hex")}`;
  writeFileSync(draft, `${randomBytes(16).toString("hex")}\n`, { mode: 0o600, flush: true });
  try {
    linkSync(draft, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    rmSync(draft, { force: true });
  }
  return readId(path) as string;
}

/** With letters that Modal takes, and short enough: a name that is changed ends in a hash of what it was. */
function fitted(name: string): string {
  const safe = name.replace(/[^A-Za-z0-9._-]/g, "-");
  if (safe === name && name.length <= maxNameLength) return name;
  const hash = createHash("sha256").update(name).digest("hex").slice(0, 10);
  return `${safe.slice(0, maxNameLength - 11)}-${hash}`;
}
