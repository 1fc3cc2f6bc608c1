/** The end of a session's event log on the data volume, which the agent can write to: hostile to its last byte. */
import { closeSync, constants, fstatSync, openSync, readlinkSync, readSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { agentEventSchema } from "../protocol/messages.ts";
import { sanitizeDeep } from "../sanitize.ts";
import { render } from "./render.ts";

const tailBytes = 64 * 1024;

/** Up to `lines` lines of it, as words; undefined when there is no log, or it is none of ours. */
export function lastEvents(volumeFolder: string, sessionId: string, lines: number): string[] | undefined {
  const tail = tailOf(volumeFolder, join("sessions", sessionId, "events.ndjson"));
  if (tail === undefined) return undefined;
  let text = "";
  const shown: string[] = [];
  const closeText = () => {
    if (text !== "") shown.push(...text.trimEnd().split("\n"));
    text = "";
  };
  for (const line of tail.split("\n")) {
    for (const part of renderLine(line)) {
      if ("data" in part) text += part.data;
      else {
        closeText();
        shown.push(...part.note.split("\n"));
      }
    }
  }
  closeText();
  return shown.slice(-lines);
}

function renderLine(line: string): ReturnType<typeof render> {
  try {
    const event = agentEventSchema.safeParse(JSON.parse(line));
    return event.success ? render(sanitizeDeep(event.data)) : [];
  } catch {
    // the first line is cut, and the agent may have written anything
    return [];
  }
}

/** No link is followed on any part of the path, and only a regular file is read. */
function tailOf(folder: string, path: string): string | undefined {
  let fd: number | undefined;
  try {
    fd = openSync(join(folder, path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stat = fstatSync(fd);
    if (!stat.isFile()) return undefined;
    if (readlinkSync(`/proc/self/fd/${fd}`) !== join(realpathSync(folder), path)) return undefined;
    const buffer = Buffer.alloc(Math.min(tailBytes, stat.size));
    const read = readSync(fd, buffer, 0, buffer.length, Math.max(0, stat.size - tailBytes));
    return buffer.subarray(0, read).toString("utf8");
  } catch {
    // not there, or closed to this user
    return undefined;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
