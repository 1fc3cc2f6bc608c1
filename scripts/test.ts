/**
 * `npm test`: installs what the machine lacks where it may, then runs the suite. Arguments are files or node flags. What takes long
 * is shorter in the whole suite than alone: `npm run test:long` has its full length.
 */
import { spawnSync } from "node:child_process";
import { globSync } from "node:fs";
import { installWhatIsMissing } from "../src/cli/install-missing.ts";
import { createProvider } from "../src/sandbox/sandbox.ts";
import { temporaryFolder } from "../test/helpers/temporary-folder.ts";

{
  await using folder = await temporaryFolder();
  await using provider = await createProvider("local", { stateFolder: folder.path, hostEnvironment: process.env });
  await installWhatIsMissing(provider, console.error);
}
const asked = process.argv.slice(2);
const isWhole = asked.every((argument) => argument.startsWith("-"));
const files = isWhole ? globSync("test/**/*.test.ts").sort() : [];
const shorter = {
  CRASH_MATRIX_ROUNDS: "60",
  MANY_SESSIONS: "8",
  MEASURED_MODELS: "qwen full adamw,llama lora,gpt2 full",
};
// only against a test that hangs: a machine that is ten times slower is no failure
const longestMs = 3_600_000;
const { status } = spawnSync(
  process.execPath,
  ["--test", "--test-concurrency=2", `--test-timeout=${longestMs}`, "--test-force-exit", ...asked, ...files],
  {
    stdio: "inherit",
    env: { ...(isWhole && shorter), ...process.env },
  },
);
process.exit(status ?? 1);
