/** Runs a load client as a process on the core of the load, so that its own memory and compiler start fresh each time. */
import { once } from "node:events";
import { rawRequest } from "../message.ts";
import { type Child, startChild } from "../processes.ts";
import type { Side } from "../side.ts";

/** All clients get one argument: this and their own options, as JSON. */
export interface ClientTarget {
  port: number;
  /** the request, to be written as it is */
  request: string;
}

export function targetOf(side: Side, body: string): ClientTarget {
  return { port: side.port, request: rawRequest(side.headers, body) };
}

export function startClient(program: string, options: ClientTarget, folder: string): Child {
  return startChild({
    name: "client",
    command: [process.execPath, program, JSON.stringify(options)],
    core: "rest",
    folder,
    ipc: true,
  });
}

/** The client's next message. Throws when it ends without. */
export async function messageFrom<Message>(client: Child): Promise<Message> {
  const ended = new AbortController();
  client.process.once("exit", () => ended.abort());
  try {
    const [message] = (await once(client.process, "message", { signal: ended.signal })) as [Message];
    return message;
  } catch (error) {
    throw new Error(`the client ended: ${client.log()}`, { cause: error });
  }
}
