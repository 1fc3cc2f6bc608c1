import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";

/**
 * Joins two connections: bytes with backpressure, the end of each direction by itself (both sockets must allow half-open),
 * and an abort of one as an abort of the other.
 */
export function joinSockets(left: Socket, right: Socket): void {
  joinOneWay(left, right);
  joinOneWay(right, left);
}

function joinOneWay(from: Socket, to: Socket): void {
  from.pipe(to);
  from.on("error", () => {});
  from.on("close", () => {
    if (!from.readableEnded || !from.writableFinished) abort(to);
  });
}

/** So that the other side sees an error and not an end. */
function abort(socket: Socket): void {
  if (socket.destroyed) return;
  if (socket instanceof TLSSocket) socket.destroy();
  else socket.resetAndDestroy();
}
