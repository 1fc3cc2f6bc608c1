/** The proxy as a process: configuration from its environment, credentials from files; SIGTERM ends it, politely. */
import { messageOf } from "../errors.ts";
import { startProxy } from "./proxy.ts";
import { readProxyConfig, refuseUnsafeProcess } from "./proxy-config.ts";

/** exit code of a wrong setting */
const exitUsage = 2;
/** running requests have so long to end; whoever ends the sandbox waits hardly longer */
const politeMs = 700;

try {
  refuseUnsafeProcess(process.env, process.execArgv);
  const proxy = await startProxy(readProxyConfig(process.env["MODAL_SB_PROXY_CONFIG"]));
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, async () => {
      await proxy.stop(politeMs);
      process.exit(0);
    });
  }
} catch (error) {
  process.stderr.write(`the proxy cannot start: ${messageOf(error)}\n`);
  process.exitCode = exitUsage;
}
