/** Starts the upstream that takes its time (paced-main.ts) and talks to it. */
import { join } from "node:path";
import { startChild } from "../processes.ts";
import type { Upstream } from "./answering.ts";

export type ToUpstream = "finish" | "connections";

export type FromUpstream =
  | { type: "listening"; port: number }
  /** in answer to the question: all so far */
  | { type: "connections"; count: number }
  /** a stream's socket closed before the stream was told to finish; microseconds */
  | { type: "left"; at: number };

export interface PacedUpstream extends Upstream {
  /** Ends all streams in order. */
  finish(): void;
  connections(): Promise<number>;
  /** The next stream that is left: when the upstream saw it, in microseconds. */
  left(): Promise<number>;
}

export async function startPaced(folder: string): Promise<PacedUpstream> {
  const child = startChild({
    name: "paced",
    command: [process.execPath, join(import.meta.dirname, "paced-main.ts")],
    core: "rest",
    folder,
    ipc: true,
  });
  const next = <Type extends FromUpstream["type"]>(type: Type) =>
    new Promise<Extract<FromUpstream, { type: Type }>>((resolve, reject) => {
      const onExit = () => reject(new Error(`the upstream ended: ${child.log()}`));
      const onMessage = (message: FromUpstream) => {
        if (message.type !== type) return;
        child.process.off("message", onMessage);
        child.process.off("exit", onExit);
        resolve(message as Extract<FromUpstream, { type: Type }>);
      };
      child.process.on("message", onMessage);
      child.process.once("exit", onExit);
    });
  const send = (message: ToUpstream) => child.process.send(message);
  const { port } = await next("listening");
  return {
    origin: `http://127.0.0.1:${port}`,
    finish: () => send("finish"),
    connections: async () => {
      const answer = next("connections");
      send("connections");
      return (await answer).count;
    },
    left: async () => (await next("left")).at,
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
}
