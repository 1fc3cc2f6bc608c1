/**
 * A process that pulls or pushes, to be killed: `direction from to volume stateFolder`. The volume is at /data. Prints the
 * bytes so far, a line each time they have grown by a MiB, and the report at the end.
 */
import { createProvider } from "../../src/sandbox/sandbox.ts";
import { runtimeFiles } from "../../src/session/runtime-files.ts";
import { pull } from "../../src/transfer/pull.ts";
import { push } from "../../src/transfer/push.ts";
import type { Progress } from "../../src/transfer/report.ts";
import { sandboxSpec, testLimits } from "../helpers/sandbox-spec.ts";

const [direction, from = "", to = "", volumeName = "", stateFolder = ""] = process.argv.slice(2);
await using provider = await createProvider("local", { stateFolder, hostEnvironment: process.env });
await using volume = await provider.volume(volumeName);
await using sandbox = await provider.create(
  sandboxSpec({
    files: runtimeFiles(["transfer/inside"], [], stateFolder),
    volumes: [{ volume, path: "/data" }],
    limits: { ...testLimits, fileSizeMiB: 1024 },
  }),
);
let told = 0;
const onProgress = ({ bytes }: Progress) => {
  if (bytes < told + 2 ** 20) return;
  told = bytes;
  console.log(bytes);
};
const report =
  direction === "pull"
    ? await pull({ sandbox, from, to, onProgress })
    : await push({ sandbox, from, to, onProgress, credentials: new Map() });
console.log(JSON.stringify(report));
