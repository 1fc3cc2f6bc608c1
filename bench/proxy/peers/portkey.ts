/** Portkey's gateway, told by headers to ask the upstream as its Anthropic provider. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { npmFolder } from "../cache.ts";
import { type Side, startServer } from "../side.ts";

const packages = ["@portkey-ai/gateway@1.15.2"];

export async function startPortkey(origin: string, folder: string): Promise<Side> {
  const modules = await npmFolder("portkey", packages);
  const program = join(modules, "node_modules/@portkey-ai/gateway/build/start-server.js");
  return startServer({
    name: "Portkey",
    folder,
    headers: {
      "x-api-key": `sk-ant-bench-${randomBytes(24).toString("base64url")}`,
      "x-portkey-provider": "anthropic",
      "x-portkey-custom-host": `${origin}/v1`,
    },
    command: (port) => [process.execPath, program, `--port=${port}`, "--headless"],
  });
}
