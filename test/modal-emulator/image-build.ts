/** The instructions of one layer, really run over the layers below with the host's network and package settings. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import { promisify } from "node:util";
import { startContainer } from "./container.ts";
import { DockerfileError, type ImageSettings, type Instruction, parseEnv } from "./dockerfile.ts";
import type { BuiltImage } from "./image-store.ts";
import type { OutputLog } from "./output-log.ts";

const run = promisify(execFile);

interface Layer {
  draft: string;
  base: BuiltImage;
  instructions: readonly Instruction[];
  secretEnv: Readonly<Record<string, string>>;
  log: OutputLog;
}

export async function runInstructions(layer: Layer): Promise<ImageSettings> {
  const { base } = layer;
  const settings: ImageSettings = { env: { ...base.env }, workdir: base.workdir, entrypoint: [...base.entrypoint] };
  for (const instruction of layer.instructions) {
    layer.log.append(Buffer.from(`=> ${instruction.kind}\n`));
    if (instruction.kind === "FROM") throw new DockerfileError("the emulator builds one stage only");
    else if (instruction.kind === "ENV") Object.assign(settings.env, parseEnv(instruction.text, settings.env));
    else if (instruction.kind === "ENTRYPOINT") settings.entrypoint = instruction.argv;
    else if (instruction.kind === "WORKDIR") {
      settings.workdir = join(settings.workdir, instruction.path);
      if (isAbsolute(instruction.path)) settings.workdir = instruction.path;
      await execute(layer, { ...settings, workdir: "/" }, ["mkdir", "-p", settings.workdir]);
    } else await execute(layer, settings, instruction.argv ?? ["/bin/sh", "/run/script"], instruction.script);
  }
  for (const part of ["root-work", "usr-work", "mounted", "script"])
    await rm(join(layer.draft, part), { recursive: true, force: true });
  return settings;
}

async function execute(layer: Layer, settings: ImageSettings, argv: readonly string[], script = ""): Promise<void> {
  const scriptPath = join(layer.draft, "script");
  await writeFile(scriptPath, script, { mode: 0o755 });
  const host = await hostSettings();
  const container = await startContainer({
    layers: layer.base.layers,
    writable: layer.draft,
    env: { ...settings.env, HOME: "/root", DEBIAN_FRONTEND: "noninteractive", ...host.env, ...layer.secretEnv },
    workdir: settings.workdir,
    argv: script.startsWith("#!") ? ["/run/script"] : argv,
    binds: [...host.binds, { path: "/run/script", hostPath: scriptPath, readOnly: true }],
    hostname: "build",
    output: (_, data) => layer.log.append(data),
  });
  container.process.stdin.end();
  const code = await container.exited;
  await removeMountPoints(layer.draft, [...host.binds.map((bind) => bind.path), "/run/script"]);
  if (code !== 0)
    throw new DockerfileError(`the command of RUN ended with ${code}: ${(script || argv.join(" ")).trim()}`);
}

interface Bind {
  path: string;
  hostPath: string;
  readOnly: boolean;
}

/** So that packages install in a build as they do on this machine. */
/** of the user that builds an image, inside */
const builderHome = "/root";

async function hostSettings(): Promise<{ env: Record<string, string>; binds: Bind[] }> {
  const env: Record<string, string> = {};
  for (const [name, value] of Object.entries(process.env))
    if (
      value !== undefined &&
      /^(pip_|npm_config_registry|https?_proxy|no_proxy|node_extra_ca_certs|ssl_cert)/i.test(name)
    )
      env[name] = value;
  const home = homedir();
  const files: Record<string, string> = {
    "/etc/resolv.conf": "/etc/resolv.conf",
    "/etc/hosts": "/etc/hosts",
    "/etc/pip.conf": "/etc/pip.conf",
    ...Object.fromEntries(
      [".config/pip/pip.conf", ".pip/pip.conf", ".npmrc"].map((name) => [join(builderHome, name), join(home, name)]),
    ),
    "/etc/npmrc": "/etc/npmrc",
    "/etc/apt/auth.conf.d": "/etc/apt/auth.conf.d",
  };
  const binds = Object.entries(files).map(([path, hostPath]) => ({ path, hostPath, readOnly: true }));
  for (const folder of await foldersNamedByPip(env)) binds.push({ path: folder, hostPath: folder, readOnly: true });
  return { env, binds: binds.filter((bind) => existsSync(bind.hostPath)) };
}

/** pip may be told to install from folders, whose indexes name files beside them. */
async function foldersNamedByPip(env: Record<string, string>): Promise<string[]> {
  const configured = await run("/usr/bin/python3", ["-m", "pip", "config", "list"]).catch(() => ({ stdout: "" }));
  const text = [configured.stdout, ...Object.values(env)].join(" ");
  const paths = [...text.matchAll(/(?:file:\/\/|['"\s=])(\/[\w./-]+)/g)].map((match) => match[1] as string);
  const folders = new Set<string>();
  for (const path of [...paths, ...Object.values(env)])
    if (isAbsolute(path) && (await stat(path).catch(() => undefined))?.isDirectory()) folders.add(dirname(path));
  const outer = [...folders].filter((path) => ![...folders].some((other) => path.startsWith(`${other}/`)));
  return outer.filter((path) => !/^\/(usr|etc|bin|lib|dev|proc|sys|tmp|run)?(\/|$)/.test(path));
}

/** A bind leaves an empty file where there was none. */
async function removeMountPoints(draft: string, paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    const left = join(draft, "root", path);
    const content = await readFile(left).catch(() => undefined);
    if (content?.length === 0) await rm(left);
  }
  await mkdir(join(draft, "root"), { recursive: true });
}
