/** LiteLLM's proxy, one worker, without a database; its master key is what stands for the sandbox's key. */
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pythonFolder } from "../cache.ts";
import { type Side, startServer } from "../side.ts";

const packages = [
  "litellm[proxy]==1.106.2",
  "fastapi==0.165.0",
  "starlette==1.10.0",
  "uvicorn==0.54.0",
  "uvloop==0.23.0",
  "httpx==0.28.1",
  "aiohttp==3.14.5",
  "pydantic==2.14.3",
  "openai==2.54.0",
  "orjson==3.13.0",
];

export async function startLiteLlm(origin: string, folder: string): Promise<Side> {
  const program = join(await pythonFolder("litellm", packages), "bin/litellm");
  const masterKey = `sk-bench-${randomBytes(24).toString("hex")}`;
  const configPath = join(folder, "litellm.yaml");
  writeFileSync(
    configPath,
    `model_list:
  - model_name: claude-sonnet-4-5
    litellm_params:
      model: anthropic/claude-sonnet-4-5
      api_base: ${origin}
      api_key: sk-ant-bench-${randomBytes(24).toString("base64url")}
`,
  );
  return startServer({
    name: "LiteLLM",
    folder,
    headers: { "x-api-key": masterKey },
    env: {
      LITELLM_MASTER_KEY: masterKey,
      LITELLM_MODE: "PRODUCTION",
      // neither prices nor figures go over the network
      LITELLM_LOCAL_MODEL_COST_MAP: "True",
      LITELLM_TELEMETRY: "False",
      // no line a request, as with the other peers
      LITELLM_LOG: "ERROR",
    },
    command: (port) => [
      program,
      ...["--config", configPath, "--host", "127.0.0.1", "--port", String(port), "--num_workers", "1"],
    ],
  });
}
