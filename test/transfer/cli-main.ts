/** `modal-sb pull` of a large file, in a process that can be interrupted: `to stateFolder`. The exit code is the command's. */
import { processOutput } from "../../src/cli/output.ts";
import { pullFiles } from "../../src/cli/transfer.ts";
import { createProvider } from "../../src/sandbox/sandbox.ts";
import { runtimeFiles } from "../../src/session/runtime-files.ts";
import { shellInside } from "../helpers/run-inside.ts";
import { sandboxSpec, testLimits } from "../helpers/sandbox-spec.ts";

const [to, stateFolder = ""] = process.argv.slice(2);
await using provider = await createProvider("local", { stateFolder, hostEnvironment: process.env });
await using sandbox = await provider.create(
  sandboxSpec({
    files: runtimeFiles(["transfer/inside"], [], stateFolder),
    limits: { ...testLimits, fileSizeMiB: 4096 },
  }),
);
// larger than can arrive before the interruption does
await shellInside(sandbox, "truncate -s 4G /tmp/large");
const request = { session: "test", from: "/tmp/large", to, force: false };
process.exitCode = await pullFiles(request, sandbox, processOutput(), new AbortController().signal);
