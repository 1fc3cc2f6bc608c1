/** @fastify/http-proxy, as its README starts it, with the key set on each request. */
import { join } from "node:path";
import { npmFolder } from "../cache.ts";
import { type Side, startServer } from "../side.ts";

const packages = ["fastify@5.12.8", "@fastify/http-proxy@11.6.3"];

export async function startFastify(origin: string, folder: string): Promise<Side> {
  const modules = await npmFolder("fastify", packages);
  return startServer({
    name: "@fastify/http-proxy",
    folder,
    command: (port) => [process.execPath, join(import.meta.dirname, "fastify-main.ts"), modules, String(port), origin],
  });
}
