/** The peer's program; arguments: the folder with its modules, the port, the upstream's origin. */
import { randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import { join } from "node:path";

type Headers = Record<string, unknown>;

/** of fastify, what is used here: its types are not among our dependencies */
interface Fastify {
  register(plugin: unknown, options: object): void;
  listen(options: { host: string; port: number }): Promise<string>;
}

const [folder = "", port = "", upstream = ""] = process.argv.slice(2);
const require = createRequire(join(folder, "package.json"));
const fastify = require("fastify") as (options: { logger: boolean }) => Fastify;
const key = `sk-ant-bench-${randomBytes(24).toString("base64url")}`;

const server = fastify({ logger: false });
server.register(require("@fastify/http-proxy"), {
  upstream,
  replyOptions: {
    rewriteRequestHeaders: (_request: unknown, headers: Headers): Headers => ({ ...headers, "x-api-key": key }),
  },
});
await server.listen({ host: "127.0.0.1", port: Number(port) });
