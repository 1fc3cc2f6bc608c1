/** Sandboxes between which and this machine files go. */
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Provider, Sandbox, SandboxSpec } from "../../src/sandbox/provider.ts";
import { createProvider } from "../../src/sandbox/sandbox.ts";
import { runtimeFiles } from "../../src/session/runtime-files.ts";
import { sandboxSpec, testLimits } from "../helpers/sandbox-spec.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";

/** where our program lies in a sandbox */
const programPath = "/agent/code/transfer/inside/main.js";

export interface Scene extends AsyncDisposable {
  /** an empty folder of this machine */
  folder: string;
  stateFolder: string;
  provider: Provider;
  sandbox(changes?: Partial<SandboxSpec>): Promise<Sandbox>;
  /** A sandbox in which our program has been replaced by `program`, which finds `send`, `sendBytes` and `heard`. */
  lyingSandbox(program: string): Promise<Sandbox>;
}

export async function openScene(): Promise<Scene> {
  const folder = await temporaryFolder();
  const stateFolder = join(folder.path, "state");
  const provider = await createProvider("local", { stateFolder, hostEnvironment: process.env });
  const limits = { ...testLimits, fileSizeMiB: 4 * 1024 * 1024 };
  const files = runtimeFiles(["transfer/inside"], [], stateFolder);
  const path = join(folder.path, "files");
  await mkdir(path);
  let liars = 0;
  return {
    folder: path,
    stateFolder,
    provider,
    sandbox: (changes = {}) => provider.create(sandboxSpec({ files, limits, ...changes })),
    lyingSandbox: async (program) => {
      const hostPath = join(folder.path, `liar-${liars++}.js`);
      await writeFile(hostPath, `${prelude}\n${program}`);
      await chmod(hostPath, 0o644);
      return await provider.create(sandboxSpec({ files: [...files, { hostPath, path: programPath }], limits }));
    },
    [Symbol.asyncDispose]: async () => {
      await provider[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

const prelude = `
import { createInterface } from "node:readline";
import { createHash } from "node:crypto";
import { appendFileSync } from "node:fs";
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
/** the next message of the host but those that say that it lives; each is also kept in /tmp/heard */
const heard = async () => {
  for (;;) {
    const { value, done } = await lines.next();
    if (done) process.exit();
    appendFileSync("/tmp/heard", value + "\\n");
    if (JSON.parse(value).t !== "alive") return JSON.parse(value);
  }
};
const send = (message) => process.stdout.write(JSON.stringify(message) + "\\n");
const sendBytes = (bytes) => {
  send({ t: "data", n: bytes.length });
  process.stdout.write(bytes);
};
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
await heard();
`;

/** What `open` announces before the attack begins. */
export const announceFolder = `
send({ t: "root", kind: "folder" });
send({ t: "folder", id: 0, path: "", mode: 0o755 });
`;
