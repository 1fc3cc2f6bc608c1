/** The whole system without an account: real sandbox, real claude, real proxy; only the API's model is a script. */
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ScriptedApi, startScriptedApi } from "../demo/scripted-api.ts";
import { followUpPrompt, training, trainingPrompt } from "../demo/scripts/training.ts";
import { exitCodes } from "../errors.ts";
import { Secret } from "../secret.ts";
import type { Session, SessionEvent } from "../session/session.ts";
import { configOf, converse } from "./chat.ts";
import { terminalDisplay } from "./display.ts";
import { installWhatIsMissing } from "./install-missing.ts";
import { openConfiguredSession, openProvider } from "./open.ts";
import type { Output } from "./output.ts";

/** a hostname that no egress policy of the demo allows */
const forbiddenUrl = "https://example.com";

/** What the demo claims, each checked on what was seen. */
interface Claim {
  words: string;
  holds: boolean;
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
  const { config, environment } = configOf({ anthropicOrigin: api.origin, stateFolder: join(folder, "state") });
  const provider = undo.use(await openProvider(config, environment));
  await installWhatIsMissing(provider, output.note);

  const say = (text: string) => output.data(`${text}\n`);
  say(`The API is a scripted model at ${api.origin}. It answers to one key: ${realKey}`);
  say("The proxy holds that key. The agent gets a sandbox key in its place.\n");
  const session = undo.use(
    await openConfiguredSession({
      config,
      environment,
      provider,
      credential: { kind: "apiKey", value: new Secret(realKey), origin: "demo" },
      name: "demo",
    }),
  );
  const seen = watch(session, output);
  for (const prompt of [trainingPrompt({ path: keyFile, url: forbiddenUrl }), followUpPrompt]) {
    say(output.bold(`› ${prompt}`));
    await runTurn(session, prompt, stop);
    seen.display.endTurn();
    say("");
  }
  const claims = claimsOf(seen.events, api, realKey, keyFile);
  for (const { words, holds } of claims) say(`${holds ? "✔" : "✘"} ${words}`);
  if (output.isTerminal && claims.every((claim) => claim.holds)) {
    seen.stop();
    say(`\nYour turn: the model knows "${followUpPrompt}" and little more. Ctrl-D leaves.`);
    await converse(session, { message: undefined, format: "text" }, output, stop);
  }
  await undo.disposeAsync();
  if (!claims.every((claim) => claim.holds)) {
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

async function runTurn(session: Session, prompt: string, stop: AbortSignal): Promise<void> {
  const stopped = new Promise<never>((_resolve, reject) => {
    stop.addEventListener("abort", () => reject(stop.reason), { once: true });
  });
  const end = await Promise.race([session.runTurn(prompt), stopped]);
  // a session that could not start has said why in better words
  if (end.result !== "success") await session.ready;
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
