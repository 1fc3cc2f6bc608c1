import { once } from "node:events";
import { connect } from "node:net";

/** Waits until somebody listens on the unix socket; rejects when `exited` comes first. */
export async function untilListening(path: string, exited: Promise<unknown>): Promise<void> {
  let hasEnded = false;
  void exited.then(() => {
    hasEnded = true;
  });
  while (!hasEnded) {
    const socket = connect(path);
    try {
      await once(socket, "connect");
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 10));
    } finally {
      socket.destroy();
    }
  }
  throw new Error("it ended before it listened");
}
