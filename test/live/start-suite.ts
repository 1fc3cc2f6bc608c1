/** scripts/test-live.ts in a process. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";

const script = join(import.meta.dirname, "../../scripts/test-live.ts");

/** With this environment besides that of the tests; variables that are undefined are left out. */
export function startSuite(
  argv: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): ChildProcess {
  const env: Record<string, string | undefined> = { ...process.env, ...environment };
  // a runner of tests in a test would report to the outer one
  delete env["NODE_TEST_CONTEXT"];
  return spawn(process.execPath, [script, ...argv], {
    cwd: join(import.meta.dirname, "../.."),
    env: env as NodeJS.ProcessEnv,
    stdio: ["ignore", "pipe", "pipe"],
  });
}
