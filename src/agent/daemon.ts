/** The sandbox's main process: one conversation, a log of its events, and the socket on which hosts attach. */
import type { UnnumberedEvent } from "../protocol/messages.ts";
import { protocolVersion } from "../protocol/messages.ts";
import { parseAgentConfig, sessionFolder } from "./agent-config.ts";
import { Clients } from "./clients.ts";
import type { Conversation } from "./conversation.ts";
import { EventLog } from "./event-log.ts";
import { SessionFile } from "./session-file.ts";

/** exit code of a bug: EX_SOFTWARE of sysexits.h */
const exitBug = 70;

for (const event of ["uncaughtException", "unhandledRejection"]) process.on(event, crash);

const config = parseAgentConfig(process.env["MODAL_SB_AGENT"]);
const session = new SessionFile(sessionFolder(config));
const log = new EventLog(`${sessionFolder(config)}/events.ndjson`);
let diskIsFull = false;

const clients = new Clients({
  socketPath: config.socketPath,
  log,
  hello: () => ({
    seq: log.lastSeq,
    type: "hello",
    protocol: protocolVersion,
    sessionId: config.sessionId,
    resumed: session.canResume(),
    runningTurnId: opened?.runningTurnId ?? null,
  }),
  onMessage: async (message) => {
    if (message.type === "shutdown") await shutdown();
    else (await conversation).take(message);
  },
});

process.once("SIGTERM", () => void shutdown());

// the host is greeted while this large module is still being read
let opened: Conversation | undefined;
const conversation = import("./conversation.ts").then((module) => {
  opened = new module.Conversation({ config, environment: process.env, session, emit });
  return opened;
});

function emit(event: UnnumberedEvent): void {
  const { line, writable } = log.append(event);
  clients.broadcast(line);
  if (event.type === "END_TURN") log.flush();
  if (diskIsFull !== writable) return;
  diskIsFull = !writable;
  if (diskIsFull) {
    emit({ type: "status", kind: "notice", message: "The data volume is full: what happens now is not kept" });
  }
}

async function shutdown(): Promise<void> {
  await (await conversation).shutdown();
  await clients.close();
  process.exit(0);
}

/** The host shows the last line that a dead sandbox wrote. */
function crash(error: unknown): void {
  const { message, stack } = error instanceof Error ? error : { message: String(error), stack: "" };
  process.stderr.write(`${stack}\nthe agent daemon failed: ${message}\n`);
  try {
    emit({ type: "status", kind: "crash", message: `The agent daemon failed: ${message}` });
  } catch {
    // it failed before it had a log
  }
  process.exit(exitBug);
}
