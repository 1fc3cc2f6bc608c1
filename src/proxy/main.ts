/** The proxy as a process: configuration from its environment, credentials from files, SIGTERM ends it. */
import { messageOf } from "../errors.ts";
import { readAnthropicCredential } from "./credentials.ts";
import { startProxy } from "./proxy.ts";
import { parseProxyConfig, refuseUnsafeProcess } from "./proxy-config.ts";
import { anthropicUpstream } from "./upstream.ts";

/** exit code of a wrong setting */
const exitUsage = 2;

try {
  refuseUnsafeProcess(process.env, process.execArgv);
  const config = parseProxyConfig(process.env["MODAL_SB_PROXY_CONFIG"]);
  const upstream = anthropicUpstream(
    config.upstreams.anthropic.origin,
    readAnthropicCredential(config.credentialsFolder),
  );
  const proxy = await startProxy({ ...config, upstream });
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, async () => {
      await proxy[Symbol.asyncDispose]();
      process.exit(0);
    });
  }
} catch (error) {
  process.stderr.write(`the proxy cannot start: ${messageOf(error)}\n`);
  process.exitCode = exitUsage;
}
