/** What the main processes of a session's sandboxes have written, and where more is to be found. */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Config } from "../config/load.ts";
import { exitCodes } from "../errors.ts";
import type { Provider, Role, SandboxRecord } from "../sandbox/provider.ts";
import { sanitizeText } from "../sanitize.ts";
import { sessionIdOf } from "../session/session-file.ts";
import { lastEvents } from "./last-events.ts";
import type { Output } from "./output.ts";
import { chooseSession, continuing, type RunningSession, runningSessions } from "./running.ts";

export interface LogsRequest {
  session: string | undefined;
  /** undefined: all */
  role: Role | undefined;
}

const eventLines = 40;

/** Prints them, made safe for a terminal. A session that has ended shows what its volumes keep. */
export async function showLogs(
  { session, role }: LogsRequest,
  provider: Provider,
  config: Config,
  output: Output,
): Promise<number> {
  const chosen = choose(session, await runningSessions(provider), config);
  const sandboxes = chosen.sandboxes.filter((sandbox) => role === undefined || sandbox.role === role);
  let found = false;
  for (const sandbox of sandboxes) {
    const words = await provider.logs(sandbox);
    if (words === undefined) continue;
    found = true;
    output.note(output.bold(headOf(sandbox)));
    output.data(withNewline(sanitizeText(words)));
  }
  if (!found) {
    if (sandboxes.length > 0) output.note("There is no output of its sandboxes, or the provider keeps none.");
    else
      output.note(
        `${role === undefined ? "No sandbox" : `No sandbox of the role ${role}`} of "${chosen.name}" is running.`,
      );
    if (role === undefined || role === "agent") await showEvents(chosen.name, provider, config, output);
  }
  output.note(output.dim(`More: ${placesOf(chosen.name, config).join(" · ")}`));
  return exitCodes.success;
}

/** Also one that has ended: its volumes are still there. */
function choose(asked: string | undefined, running: readonly RunningSession[], config: Config): RunningSession {
  const isKept =
    asked !== undefined &&
    /^[\w-]+$/.test(asked) &&
    existsSync(join(config.settings.stateFolder, "sessions", `${asked}.json`));
  if (isKept && !running.some(({ name }) => name === asked)) return { name: asked, sandboxes: [] };
  return chooseSession(asked, running, config);
}

async function showEvents(name: string, provider: Provider, config: Config, output: Output): Promise<void> {
  const folder = (await provider.peek(`${name}-data`))?.hostPath;
  if (folder === undefined) {
    output.note("Its conversation is on a volume that this machine does not see.");
    return;
  }
  const lines = lastEvents(folder, sessionIdOf(resolve(config.settings.stateFolder), name, provider), eventLines);
  if (lines === undefined || lines.length === 0) {
    output.note("Nothing of the conversation is on its volume yet.");
    return;
  }
  output.note(output.bold("the end of the conversation"));
  output.data(withNewline(lines.join("\n")));
}

function placesOf(name: string, config: Config): string[] {
  return [
    `modal-sb audit ${name} (requests to the proxy)`,
    `modal-sb metrics ${name}`,
    `${continuing(name, config)} (the conversation)`,
  ];
}

function headOf({ role, id, startedAt }: SandboxRecord): string {
  return sanitizeText(`${role} ${id}, since ${startedAt}`);
}

function withNewline(text: string): string {
  return text === "" || text.endsWith("\n") ? text : `${text}\n`;
}
