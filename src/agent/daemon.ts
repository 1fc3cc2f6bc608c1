/**
 * The sandbox's main process: one conversation, a log of its events, and the socket on which hosts attach.
 * claude takes longest to start, so it is started first; what the host needs is loaded meanwhile.
 */
import { protocolVersion } from "../protocol/limits.ts";
import type { UnnumberedEvent } from "../protocol/messages.ts";
import { parseAgentConfig, sessionFolder } from "./agent-config.ts";
import type { Clients } from "./clients.ts";
import { commitVolume } from "./commit-volume.ts";
import { EventLog } from "./event-log.ts";
import { warnBeforeEnd } from "./lifetime.ts";
import { MetricsPublishing } from "./metrics-publishing.ts";
import { SessionFile } from "./session-file.ts";

/** exit code of a bug: EX_SOFTWARE of sysexits.h */
const exitBug = 70;

for (const event of ["uncaughtException", "unhandledRejection"]) process.on(event, crash);
process.once("SIGTERM", () => void shutdown());

const config = parseAgentConfig(process.env["MODAL_SB_AGENT"]);
const session = new SessionFile(sessionFolder(config));
const log = new EventLog(`${sessionFolder(config)}/events.ndjson`);
const resumed = session.canResume();
let clients: Clients | undefined;
let diskIsFull = false;
const publishing = new MetricsPublishing({
  from: process.env["TRACKIO_DIR"],
  to: config.metricsFolder,
  commit: config.commitVolumes === true,
  onProblem: (words) => emit({ type: "status", kind: "notice", message: words }),
});

const { Conversation } = await import("./conversation.ts");
const conversation = new Conversation({
  config,
  environment: process.env,
  session,
  // so that a resumed training run finds its metrics
  ready: publishing.restored,
  emit,
});

const module = await import("./clients.ts");
clients = new module.Clients({
  socketPath: config.socketPath,
  log,
  hello: () => ({
    seq: log.lastSeq,
    type: "hello",
    protocol: protocolVersion,
    sessionId: config.sessionId,
    resumed,
    runningTurnId: conversation.runningTurnId,
  }),
  onMessage: (message) => {
    if (message.type === "shutdown") void shutdown();
    else conversation.take(message);
  },
  refuse: (turn, reason) => conversation.refuse(turn, reason),
});

if (config.lifetimeMs !== undefined) {
  warnBeforeEnd(config.lifetimeMs, ({ minutes, ...message }) => {
    // a conversation that never began has nothing to save
    if (!session.canResume() && conversation.runningTurnId === null) return;
    emit({ type: "status", kind: "notice", message: `This sandbox ends in ${minutes} min; the agent is told` });
    conversation.take({ type: "user", ...message });
  });
}

function emit(event: UnnumberedEvent): void {
  const { line, writable } = log.append(event);
  clients?.broadcast(line);
  if (event.type === "END_TURN") {
    log.flush();
    if (config.commitVolumes) commitVolume(config.dataFolder);
  }
  if (diskIsFull !== writable) return;
  diskIsFull = !writable;
  if (diskIsFull) {
    emit({ type: "status", kind: "notice", message: "The data volume is full: what happens now is not kept" });
  }
}

async function shutdown(): Promise<void> {
  // until the socket is there nobody has sent anything that could be lost
  if (clients) await conversation.shutdown();
  await publishing.close();
  await clients?.close();
  log.close();
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
