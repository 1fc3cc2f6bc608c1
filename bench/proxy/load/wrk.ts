/** Requests a second, by wrk: the same request again and again on kept connections, the next when the last is answered. */
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { debianFolder } from "../cache.ts";
import { messageBody, messageHeaders, messagePath } from "../message.ts";
import { startChild } from "../processes.ts";
import type { Side } from "../side.ts";

const packages = ["wrk=4.1.0-3+b2", "libluajit-5.1-2=2.1.0~beta3+git20220320+dfsg-4.1+deb12u1"];
const script = join(import.meta.dirname, "post.lua");
const connections = 50;

/** Throws when a request was not answered with a 2xx. */
export async function requestsPerSecond(side: Side, seconds: number, folder: string): Promise<number> {
  const unpacked = await debianFolder("wrk", packages);
  const bodyPath = join(folder, "body.json");
  writeFileSync(bodyPath, messageBody());
  const headers = Object.entries({ ...messageHeaders, ...side.headers }).map(([name, value]) => `${name}: ${value}`);
  await using wrk = startChild({
    name: "wrk",
    command: [
      join(unpacked, "usr/bin/wrk"),
      ...["--threads", "1", "--connections", String(connections), "--duration", `${seconds}s`, "--timeout", "10s"],
      ...["--script", script, `http://127.0.0.1:${side.port}${messagePath}`, "--", bodyPath, ...headers],
    ],
    core: "rest",
    folder,
    env: { LD_LIBRARY_PATH: join(unpacked, "usr/lib/x86_64-linux-gnu") },
  });
  await once(wrk.process, "exit");
  const log = wrk.log();
  const line = log.split("\n").find((found) => found.startsWith("{"));
  if (line === undefined) throw new Error(`wrk failed on ${side.name}: ${log}`);
  const result = JSON.parse(line) as { requests: number; seconds: number; errors: number };
  if (result.errors > 0) throw new Error(`${side.name} failed ${result.errors} of ${result.requests} requests`);
  return result.requests / result.seconds;
}
