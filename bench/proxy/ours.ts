/** Our own proxy: how it is configured, started and told of a sandbox. All that the benchmark knows of it is here. */
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { controlOnce } from "../../test/proxy/running-proxy.ts";
import { freePort, startChild, untilListening } from "./processes.ts";
import { type Side, sideOf } from "./side.ts";

const mainPath = join(import.meta.dirname, "../../src/proxy/main.ts");

/** With a grant in force for the key in the side's headers. */
export async function startOurs(origin: string, folder: string): Promise<Side> {
  const port = await freePort();
  const credentialsFolder = join(folder, "credentials");
  const controlPath = join(folder, "control.sock");
  mkdirSync(credentialsFolder);
  writeFileSync(join(credentialsFolder, "ANTHROPIC_API_KEY"), `sk-ant-bench-${randomBytes(24).toString("base64url")}`);
  const config = {
    upstreams: { anthropic: { origin } },
    doors: [{ at: `127.0.0.1:${port}`, prefix: "" }],
    publicOrigin: `http://127.0.0.1:${port}`,
    controlPath,
    dataFolder: folder,
    credentialsFolder,
  };
  const child = startChild({
    name: "ours",
    command: [process.execPath, mainPath],
    core: "proxy",
    folder,
    env: { MODAL_SB_PROXY_CONFIG: JSON.stringify(config) },
  });
  const token = randomBytes(24).toString("base64url");
  const side = await sideOf("ours", child, port, { "x-api-key": `sb-bench.${token}` });
  await untilListening(child, controlPath);
  const granted = await controlOnce(
    controlPath,
    JSON.stringify({
      id: 1,
      op: "grant",
      sandboxId: "sb-bench",
      tokenHash: createHash("sha256").update(token).digest("hex"),
      expiresAt: Date.now() + 3_600_000,
      upstreams: { anthropic: { models: ["claude-*", "bench-*"], maxOutputTokens: 100_000 } },
      // all limits are on; none is reached
      limits: { usd: 1e6, requestsPerMinute: 1e9, concurrentRequests: 10_000 },
    }),
  );
  if (granted["ok"] !== true) throw new Error(`the proxy did not take the grant: ${JSON.stringify(granted)}`);
  return side;
}

/** Headers with a key that has the right shape and that nobody was given. */
export function wrongKey(): Record<string, string> {
  return { "x-api-key": `sb-bench.${randomBytes(24).toString("base64url")}` };
}
