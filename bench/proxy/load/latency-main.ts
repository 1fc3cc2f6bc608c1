/**
 * Client: so many connections, each asks, waits for the answer, pauses, and asks again. Sends the time on the way of
 * each request in ms, out and back: from the request's last byte to the answer's first, less what the upstream took.
 */
import { connect } from "node:net";
import { microseconds } from "../clock.ts";
import type { ClientTarget } from "./client.ts";

export interface LatencyOptions extends ClientTarget {
  connections: number;
  requestsEach: number;
  /** longest pause between answer and next request, in ms */
  pauseMs: number;
}

const options = JSON.parse(process.argv[2] ?? "{}") as LatencyOptions;
/** not counted: connecting, and each connection's first */
const warmRequests = 5;
const ways: number[] = [];
let open = options.connections;

function runConnection(): void {
  const socket = connect(options.port, "127.0.0.1");
  socket.setNoDelay(true);
  let asked = 0;
  let sentAt = 0;
  let firstAt = 0;
  let answer = "";
  const ask = () => {
    asked += 1;
    answer = "";
    sentAt = microseconds();
    socket.write(options.request, "latin1");
  };
  socket.once("connect", () => setTimeout(ask, Math.random() * options.pauseMs));
  socket.on("data", (part: Buffer) => {
    if (answer === "") firstAt = microseconds();
    answer += part.toString("latin1");
    // the answer's last characters
    if (!answer.endsWith("}}")) return;
    const took = Number(/@(\d+)@/.exec(answer)?.[1]);
    if (!(answer.startsWith("HTTP/1.1 200") && took > 0)) throw new Error(`unexpected answer: ${answer}`);
    if (asked > warmRequests) ways.push((firstAt - sentAt - took) / 1000);
    if (asked < options.requestsEach) setTimeout(ask, Math.random() * options.pauseMs);
    else socket.destroy();
  });
  socket.once("close", () => {
    if (asked < options.requestsEach) throw new Error("the connection was closed");
    open -= 1;
    if (open === 0) process.send?.(ways, () => process.exit(0));
  });
}

for (let count = 0; count < options.connections; count += 1) runConnection();
