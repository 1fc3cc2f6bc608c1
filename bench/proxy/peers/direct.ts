/** No proxy: what the upstream and the load can do between them. */
import type { Side } from "../side.ts";

export async function startDirect(origin: string): Promise<Side> {
  return {
    name: "direct",
    port: Number(new URL(origin).port),
    headers: {},
    pid: null,
    async [Symbol.asyncDispose]() {},
  };
}
