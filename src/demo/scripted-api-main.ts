/**
 * The scripted API as a process of its own: `node scripted-api-main.ts --script <name> [--host h] [--port n]`.
 * Prints one JSON line with its origin, and ends with its stdin, so that it cannot outlive the one who started it.
 * The key it asks for comes in the environment, where other users of the machine cannot read it.
 */
import { once } from "node:events";
import { parseArgs } from "node:util";
import type { Script } from "./script.ts";
import { startScriptedApi } from "./scripted-api.ts";
import { echo } from "./scripts/echo.ts";
import { training } from "./scripts/training.ts";

const scripts: Readonly<Record<string, () => Script>> = { echo, training };

const { values } = parseArgs({
  options: {
    script: { type: "string" },
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string", default: "0" },
  },
});
const make = scripts[values.script ?? ""];
if (make === undefined) throw new Error(`--script must be one of: ${Object.keys(scripts).join(", ")}`);
// biome-ignore lint/style/noProcessEnv: the entry of its own process
const apiKey = process.env["SCRIPTED_API_KEY"];

await using api = await startScriptedApi({
  script: make(),
  ...(apiKey === undefined ? {} : { apiKey }),
  host: values.host,
  port: Number(values.port),
});
process.stdout.write(`${JSON.stringify({ origin: api.origin })}\n`);
process.stdin.resume();
await once(process.stdin, "close");
