/** The agent's events as they come out of its sandbox: every byte is hostile until it has passed here. */

import type { Line } from "../protocol/json-lines.ts";
import { maxAgentLineBytes } from "../protocol/limits.ts";
import { type AgentEvent, agentEventSchema, type HostMessage } from "../protocol/messages.ts";
import type { Sandbox } from "../sandbox/provider.ts";
import { sanitizeDeep } from "../sanitize.ts";
import { agentSocket } from "./agent-role.ts";
import { openLineLink } from "./line-link.ts";

/** a connection that is lost for so long is told of */
const tellMs = 5000;

export interface AgentLinkEvents {
  onEvent(event: AgentEvent): void;
  /** a line that is no event; said once for each run of such lines, so that garbage cannot flood the user */
  onBadLine(reason: string): void;
  /** messages whose end has not come: said again when the link was broken; the daemon knows those that it has by their turn */
  pending(): HostMessage[];
  /** the connection is lost, and when `isBack` it works again */
  onConnection(isBack: boolean): void;
}

export interface AgentLink {
  send(message: HostMessage): void;
  readonly ended: Promise<void>;
  close(): void;
}

/**
 * Attaches to the daemon; events begin with `hello`, then those logged after number `after`. `canReopen`: over a network, which
 * may break.
 */
export async function attachToAgent(
  sandbox: Sandbox,
  after: number,
  events: AgentLinkEvents,
  canReopen: boolean,
): Promise<AgentLink> {
  let lastWasBad = false;
  let lastSeq = after;
  let isKnown = false;
  let isTold = false;
  let telling: NodeJS.Timeout | undefined;
  const take = (line: Line) => {
    const event = parseEvent(line);
    if (typeof event === "string") {
      if (!lastWasBad) events.onBadLine(event);
      lastWasBad = true;
      return;
    }
    lastWasBad = false;
    // the first hello says from where on a later link is to be told
    if (event.type === "hello") lastSeq = Math.min(lastSeq, event.seq);
    else lastSeq = Math.max(lastSeq, event.seq);
    if (event.type !== "hello" || !isKnown) events.onEvent(event);
    isKnown ||= event.type === "hello";
  };
  const link = await openLineLink(
    sandbox,
    agentSocket,
    maxAgentLineBytes,
    take,
    canReopen
      ? {
          // what is back at once is nobody's trouble
          onChange: (isBack) => {
            clearTimeout(telling);
            if (isBack && isTold) events.onConnection(true);
            isTold = false;
            if (isBack) return;
            telling = setTimeout(() => {
              isTold = true;
              events.onConnection(false);
            }, tellMs).unref();
          },
          greet: (send) => {
            send({ type: "attach", after: lastSeq } satisfies HostMessage);
            for (const message of events.pending()) send(message);
          },
        }
      : undefined,
  );
  link.send({ type: "attach", after } satisfies HostMessage);
  return link;
}

function parseEvent(line: Line): AgentEvent | string {
  if (!("text" in line)) return `a line of ${line.droppedBytes} bytes was dropped`;
  let json: unknown;
  try {
    json = JSON.parse(line.text);
  } catch {
    return "a line was not JSON";
  }
  const event = agentEventSchema.safeParse(json);
  return event.success ? sanitizeDeep(event.data) : "a line was no known event";
}
