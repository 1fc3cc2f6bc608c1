/** A way to the upstream: straight, or through one of the proxies. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type Child, freePort, startChild, untilListening } from "./processes.ts";

export interface Side extends AsyncDisposable {
  name: string;
  port: number;
  /** what this way asks for besides the request's own headers, its key among them */
  headers: Record<string, string>;
  /** null when nothing stands between */
  pid: number | null;
}

/** Starts one; `origin` is the upstream's, `folder` its own. Throws when it cannot be installed or started. */
export type StartSide = (origin: string, folder: string) => Promise<Side>;

interface ServerOptions {
  name: string;
  folder: string;
  headers?: Record<string, string>;
  env?: Record<string, string>;
  command(port: number): readonly [program: string, ...args: string[]];
}

/** A side that is one process on one port. */
export async function startServer({ name, folder, headers = {}, env = {}, command }: ServerOptions): Promise<Side> {
  const port = await freePort();
  const child = startChild({ name, command: command(port), core: "proxy", folder, env });
  return sideOf(name, child, port, headers);
}

/** Waits until it listens; ends it when it does not come to that. */
export async function sideOf(name: string, child: Child, port: number, headers: Record<string, string>): Promise<Side> {
  try {
    await untilListening(child, port);
  } catch (error) {
    await child[Symbol.asyncDispose]();
    throw error;
  }
  return { name, port, headers, pid: child.pid, [Symbol.asyncDispose]: () => child[Symbol.asyncDispose]() };
}

/** Makes a folder for a side's files, named after it. */
export function subfolder(folder: string, name: string): string {
  const path = join(folder, name.replaceAll(/\W+/g, "-"));
  mkdirSync(path);
  return path;
}
