/** Where events go: to a person's terminal as they come, to a pipe as whole blocks, or as JSON lines. */
import type { SessionEvent } from "../session/contract.ts";
import type { Output } from "./output.ts";
import { render } from "./render.ts";
import { SentinelGuard, sentinel } from "./sentinel.ts";

export interface Display {
  take(event: SessionEvent): void;
  /** Called after the events of a turn. */
  endTurn(): void;
}

export function jsonDisplay(output: Output): Display {
  return { take: (event) => output.data(`${JSON.stringify(event)}\n`), endTurn: () => {} };
}

/** Streams. Notes begin on a line of their own. */
export function terminalDisplay(output: Output): Display {
  let lineIsOpen = false;
  const closeLine = () => {
    if (lineIsOpen) output.data("\n");
    lineIsOpen = false;
  };
  return {
    take: (event) => {
      for (const part of render(event)) {
        if ("data" in part) {
          output.data(part.data);
          lineIsOpen = !part.data.endsWith("\n");
        } else {
          closeLine();
          writeNote(output, part);
        }
      }
    },
    endTurn: closeLine,
  };
}

/**
 * Text that stands, block by block, each ending with a newline; what the API repeats is never written.
 * `withSentinel`: each turn ends with the line END_TURN, and no line of the agent looks like it.
 */
export function pipeDisplay(output: Output, withSentinel: boolean): Display {
  const guard = withSentinel ? new SentinelGuard() : undefined;
  let held = "";
  const release = () => {
    const text = held === "" || held.endsWith("\n") ? held : `${held}\n`;
    held = "";
    output.data(guard ? guard.push(text) : text);
  };
  return {
    take: (event) => {
      if (event.type === "text_discarded") held = "";
      else if (event.type === "text_ended") release();
      else {
        for (const part of render(event)) {
          if ("data" in part) held += part.data;
          else writeNote(output, part);
        }
      }
    },
    endTurn: () => {
      release();
      if (guard) output.data(`${guard.end()}${sentinel}\n`);
    },
  };
}

function writeNote(output: Output, part: { note: string; tone: "plain" | "error" }): void {
  output.note(part.tone === "error" ? output.red(part.note) : output.dim(part.note));
}
