/**
 * The whole system without an account: real sandbox, real claude, real proxy, real trackio, real syncer; only the API's
 * model is a script, and the server of the metrics is a small one of our own.
 */
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { type ScriptedApi, startScriptedApi } from "../demo/scripted-api.ts";
import { followUpPrompt, training, trainingPrompt } from "../demo/scripts/training.ts";
import { startTrackioServer, type TrackioServer } from "../demo/trackio-server.ts";
import { exitCodes } from "../errors.ts";
import type { EndTurn } from "../protocol/messages.ts";
import type { Session, SessionEvent } from "../session/session.ts";
import { configOf, converse } from "./chat.ts";
import { terminalDisplay } from "./display.ts";
import { installWhatIsMissing } from "./install-missing.ts";
import { metricsText } from "./metrics.ts";
import { openConfiguredSession, openProvider } from "./open.ts";
import type { Output } from "./output.ts";

/** a hostname that no egress policy of the demo allows */
const forbiddenUrl = "https://example.com";

/** What the demo claims, each checked on what was seen. */
interface Claim {
  words: string;
  /** undefined: it could not be tried, which the words say */
  holds: boolean | undefined;
}

/** Runs the demo; exit code 0 when every claim held. */
export async function demo(output: Output, stop: AbortSignal): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "modal-sb-demo-"));
  await using undo = new AsyncDisposableStack();
  undo.defer(() => rmSync(folder, { recursive: true, force: true }));

  const realKey = `sk-ant-demo-${randomBytes(24).toString("base64url")}`;
  const keyFile = join(folder, "real-key");
  writeFileSync(keyFile, realKey, { mode: 0o600 });
  const api = undo.use(await startScriptedApi({ script: training(), apiKey: realKey }));
  const writeToken = `trackio-demo-${randomBytes(24).toString("base64url")}`;
  const trackio = undo.use(await startTrackioServer({ folder: join(folder, "trackio"), writeToken }));
  const { config, environment } = configOf({
    provider: "local",
    anthropicOrigin: api.origin,
    keyFile,
    stateFolder: join(folder, "state"),
    metrics: { server: trackio.address, intervalSeconds: 1 },
  });
  const provider = undo.use(await openProvider(config, environment));
  await installWhatIsMissing(provider, output.note);

  const say = (text: string) => output.data(`${text}\n`);
  say(`The API is a scripted model at ${api.origin}. It answers to one key: ${realKey}`);
  say("The proxy holds that key. The agent gets a sandbox key in its place.");
  say(`Metrics go to a trackio server at ${trackio.address}, whose token the syncer holds.\n`);
  const session = undo.use(
    await openConfiguredSession({
      config,
      environment: { ...environment, TRACKIO_WRITE_TOKEN: writeToken },
      provider,
      name: "demo",
    }),
  );
  const seen = watch(session, output);
  const ask = async (prompt: string) => {
    say(output.bold(`› ${prompt}`));
    const end = await runTurn(session, prompt, stop);
    seen.display.endTurn();
    say("");
    return end;
  };
  const { text: report } = await ask(trainingPrompt({ path: keyFile, url: forbiddenUrl }));
  const metrics = await arrivedMetrics(report, trackio, session, stop);
  if (metrics.rows > 0) say(`${await curvesAt(trackio, output)}\n`);
  await ask(followUpPrompt);
  const claims = [...claimsOf(seen.events, api, realKey, keyFile), ...metrics.claims(seen.events, writeToken)];
  for (const { words, holds } of claims) say(`${holds === undefined ? "–" : holds ? "✔" : "✘"} ${words}`);
  const hasFailed = claims.some(({ holds }) => holds === false);
  if (output.isTerminal && !hasFailed) {
    seen.stop();
    say(`\nYour turn: the model knows "${followUpPrompt}" and little more. Ctrl-D leaves.`);
    await converse(session, { message: undefined, format: "text" }, output, stop);
  }
  await undo.disposeAsync();
  if (hasFailed) {
    say("\nThe demo failed.");
    return exitCodes.internal;
  }
  say("\nThe demo succeeded. With a key of your own: ANTHROPIC_API_KEY=… npx modal-sb");
  return exitCodes.success;
}

function watch(session: Session, output: Output) {
  const events: SessionEvent[] = [];
  const display = terminalDisplay({ ...output, note: (text) => output.data(`${text}\n`) });
  const stop = session.subscribe((event) => {
    events.push(event);
    display.take(event);
  });
  return { events, display, stop };
}

async function runTurn(session: Session, prompt: string, stop: AbortSignal): Promise<EndTurn> {
  const end = await unlessStopped(session.runTurn(prompt), stop);
  // a session that could not start has said why in better words
  if (end.result !== "success") await session.ready;
  return end;
}

function unlessStopped<Value>(work: Promise<Value>, stop: AbortSignal): Promise<Value> {
  const stopped = new Promise<never>((_resolve, reject) => {
    stop.addEventListener("abort", () => reject(stop.reason), { once: true });
  });
  return Promise.race([work, stopped]);
}

interface ArrivedMetrics {
  /** on the server, of the run that the agent reports */
  rows: number;
  claims(events: readonly SessionEvent[], writeToken: string): Claim[];
}

/** Waits until the server has the run of which the agent says that it is logged. */
async function arrivedMetrics(
  report: string,
  trackio: TrackioServer,
  session: Session,
  stop: AbortSignal,
): Promise<ArrivedMetrics> {
  const [, project = "", run] = /in project (\S+), run ([\w-]+)/.exec(report) ?? [];
  const [, epochs = "?"] = /in epoch (\d+)\. Every/.exec(report) ?? [];
  if (run === undefined) {
    const [, reason = "the agent does not say why"] = /No metrics were logged: (.+)/.exec(report) ?? [];
    // without a package index there is no trackio, which is nobody's fault
    return { rows: 0, claims: () => [{ words: `no metrics were shown: ${reason}`, holds: undefined }] };
  }
  await unlessStopped(sent(session, Number(epochs)), stop);
  const rows = await rowsAt(trackio, project, run);
  return {
    rows,
    claims: (events, writeToken) => [
      { words: `the metrics of all ${epochs} epochs arrived at the trackio server`, holds: rows === Number(epochs) },
      { words: "its token was in nothing that the agent saw", holds: !JSON.stringify(events).includes(writeToken) },
    ],
  };
}

/** Resolves when so many rows have been sent, or when they have not for half a minute. */
async function sent(session: Session, rows: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const look = () => {
    if ((session.metrics()?.sent ?? 0) >= rows) resolve();
  };
  const unsubscribe = session.subscribe(look);
  look();
  await Promise.race([promise, setTimeout(30_000, undefined, { ref: false })]);
  unsubscribe();
}

async function rowsAt({ address }: TrackioServer, project: string, run: string): Promise<number> {
  const query = `SELECT COUNT(*) AS n FROM metrics WHERE run_name = '${run}'`;
  const body = JSON.stringify({ kwargs: { project, query } });
  const response = await fetch(`${address}api/query_project`, { method: "POST", body });
  const { data } = (await response.json()) as { data?: { rows: { n: number }[] } };
  return data?.rows[0]?.n ?? 0;
}

async function curvesAt({ folder }: TrackioServer, output: Output): Promise<string> {
  const width = output.isTerminal ? Math.min(process.stdout.columns, 120) : 100;
  return await metricsText(folder, "live", { width, chartHeight: 9, isColored: output.isTerminal, now: Date.now() });
}

function claimsOf(events: readonly SessionEvent[], api: ScriptedApi, realKey: string, keyFile: string): Claim[] {
  const text = (turn: number) => {
    const end = events.filter((event) => event.type === "END_TURN")[turn];
    return end?.result === "success" ? end.text : "";
  };
  const output = events.flatMap((event) => (event.type === "tool_ended" ? [event.output] : [])).join("\n");
  const [, sandboxKey = ""] = /ANTHROPIC_API_KEY=(sb-\S+)/.exec(output) ?? [];
  const keysAtTheApi = new Set(api.requests.map((request) => request.headers["x-api-key"]));
  const [, loss = "?"] = /to ([\d.]+) in epoch/.exec(text(0)) ?? [];
  return [
    {
      words: `the key that the sandbox saw:  ${sandboxKey.slice(0, 28)}…`,
      holds: sandboxKey !== "" && sandboxKey !== realKey,
    },
    {
      words: `the key that the API got:      ${realKey.slice(0, 28)}… in all ${api.requests.length} requests`,
      holds: keysAtTheApi.size === 1 && keysAtTheApi.has(realKey),
    },
    { words: "the real key was in nothing that the agent saw", holds: !JSON.stringify(events).includes(realKey) },
    {
      words: "a file of this machine could not be read in the sandbox",
      holds: output.includes(`${keyFile}: No such file`),
    },
    {
      words: `${forbiddenUrl} was refused by the egress policy`,
      holds: output.includes("Tunnel connection failed: 403"),
    },
    { words: `the training ran in the sandbox; its last loss was ${loss}`, holds: loss !== "?" },
    { words: "the second turn knew the first", holds: loss !== "?" && text(1).includes(loss) },
  ];
}
