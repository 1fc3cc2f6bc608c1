import { once } from "node:events";
import type { EmulatedSandbox, ReadinessProbe } from "./sandbox.ts";

/** Tries a readiness probe once, inside the sandbox. */
export async function isReady(sandbox: EmulatedSandbox, probe: ReadinessProbe): Promise<boolean> {
  const connect = `exec 3<>/dev/tcp/127.0.0.1/${probe.tcpPort}`;
  const argv = probe.execCommand ? probe.execCommand.argv : ["/bin/bash", "-c", connect];
  const exec = sandbox.container?.exec(argv, { env: {}, workdir: "/" });
  if (!exec) return false;
  for (const stream of [exec.process.stdout, exec.process.stderr]) stream.resume();
  exec.process.stdin.end();
  const [code] = (await once(exec.process, "exit")) as [number | null];
  return code === 0;
}
