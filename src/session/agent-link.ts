/** The agent's events as they come out of its sandbox: every byte is hostile until it has passed here. */

import type { Line } from "../protocol/json-lines.ts";
import { maxAgentLineBytes } from "../protocol/limits.ts";
import { type AgentEvent, agentEventSchema, type HostMessage } from "../protocol/messages.ts";
import type { Sandbox } from "../sandbox/provider.ts";
import { sanitizeDeep } from "../sanitize.ts";
import { agentSocket } from "./agent-role.ts";
import { openLineLink } from "./line-link.ts";

export interface AgentLinkEvents {
  onEvent(event: AgentEvent): void;
  /** a line that is no event; said once for each run of such lines, so that garbage cannot flood the user */
  onBadLine(reason: string): void;
}

export interface AgentLink {
  send(message: HostMessage): void;
  readonly ended: Promise<void>;
  close(): void;
}

/** Attaches to the daemon; events begin with `hello`, then those logged after number `after`. */
export async function attachToAgent(sandbox: Sandbox, after: number, events: AgentLinkEvents): Promise<AgentLink> {
  let lastWasBad = false;
  const link = await openLineLink(sandbox, agentSocket, maxAgentLineBytes, (line) => {
    const event = parseEvent(line);
    if (typeof event === "string") {
      if (!lastWasBad) events.onBadLine(event);
      lastWasBad = true;
      return;
    }
    lastWasBad = false;
    events.onEvent(event);
  });
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
