/** The real trackio from PyPI, as the writer in a folder and as the server. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { promisify } from "node:util";
import { freePort } from "../helpers/free-port.ts";
import { installPackages, packagesFolder } from "../helpers/python-packages.ts";

const run = promisify(execFile);

/** Versions with what else must be pinned: the old one does not know the newest client of the Hub. */
export const versions = { "0.43.0": ["huggingface_hub==2.4.0"], "0.36.0": ["huggingface_hub==1.10.0"] } as const;
export type Version = keyof typeof versions;

export const writeToken = "write-token-of-the-test";
export const hfToken = "hf_token_of_the_test";

/** Installs the version once for this user; a string says why it cannot be. */
export function installTrackio(version: Version): Promise<string | undefined> {
  return installPackages(`trackio-${version}`, [`trackio==${version}`, ...versions[version]]);
}

export function environmentOf(version: Version, folder: string): Record<string, string> {
  return {
    PATH: "/usr/local/bin:/usr/bin:/bin",
    HOME: folder,
    HF_HOME: join(folder, ".hf"),
    HF_HUB_OFFLINE: "1",
    TRACKIO_DIR: folder,
    TRACKIO_STORAGE_MODE: "sqlite",
    PYTHONPATH: packagesFolder(`trackio-${version}`),
    PYTHONDONTWRITEBYTECODE: "1",
  };
}

/** Runs Python with trackio, whose folder is `folder`. */
export async function python(
  version: Version,
  folder: string,
  code: string,
  environment: Record<string, string> = {},
): Promise<string> {
  const env = { ...environmentOf(version, folder), ...environment };
  const { stdout } = await run("python3", ["-c", `import trackio\n${code}`], { env });
  return stdout;
}

export interface RunningTrackio extends AsyncDisposable {
  /** ends with a slash */
  address: string;
  folder: string;
  /** calls an API as somebody who may write */
  call(name: string, kwargs: object): Promise<unknown>;
}

/**
 * `space`: as on Hugging Face, where a bearer token is checked; `own`: self-hosted, with a write token. Of `changes` to its
 * environment, what is undefined is taken out.
 */
export async function startTrackio(
  version: Version,
  mode: "space" | "own",
  folder: string,
  port?: number,
  changes: Record<string, string | undefined> = {},
): Promise<RunningTrackio> {
  port ??= await freePort();
  const env: Record<string, string | undefined> = {
    ...environmentOf(version, folder),
    TRACKIO_WRITE_TOKEN: writeToken,
    ...(mode === "space" && {
      SYSTEM: "spaces",
      SPACE_ID: "acme/metrics",
      SPACE_AUTHOR_NAME: "acme",
      SPACE_REPO_NAME: "metrics",
      HF_TOKEN: hfToken,
    }),
    ...changes,
  };
  const code = `import trackio; trackio.show(host="127.0.0.1", server_port=${port}, open_browser=False, block_thread=True)`;
  const server = spawn("python3", ["-c", code], { env, stdio: ["ignore", "pipe", "pipe"] });
  let words = "";
  for (const stream of [server.stdout, server.stderr]) stream.on("data", (chunk) => (words += chunk));
  const address = `http://127.0.0.1:${port}/`;
  const ended = once(server, "exit").then(() => Promise.reject(new Error(`trackio ended: ${words}`)));
  ended.catch(() => {});
  await Promise.race([answering(`${address}version`), ended]);
  return {
    address,
    folder,
    async call(name, kwargs) {
      const headers = { "content-type": "application/json", "x-trackio-write-token": writeToken };
      const response = await fetch(`${address}api/${name}`, {
        ...{ method: "POST", headers },
        body: JSON.stringify({ kwargs: { ...kwargs, hf_token: null } }),
      });
      const answer = (await response.json()) as { data: unknown };
      if (!response.ok) throw new Error(JSON.stringify(answer));
      return answer.data;
    },
    async [Symbol.asyncDispose]() {
      const exited = once(server, "exit");
      server.kill("SIGKILL");
      await exited;
    },
  };
}

async function answering(url: string): Promise<void> {
  for (;;) {
    const response = await fetch(url).catch(() => undefined);
    if (response?.ok) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
