/** The command line, from arguments to exit code. Whatever ends it, the session is disposed of first. */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { CommanderError } from "@commander-js/extra-typings";
import { exitCodes } from "../errors.ts";
import { chat, configOf } from "./chat.ts";
import { formatError } from "./format-error.ts";
import { configForSession, openProvider } from "./open.ts";
import { type Output, processOutput } from "./output.ts";
import { parseArguments, type Request } from "./program.ts";
import { endingSignals, StoppedBySignal } from "./stopped-by-signal.ts";

/** Runs the command line; the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  const output = processOutput();
  const stop = new AbortController();
  for (const signal of Object.keys(endingSignals) as (keyof typeof endingSignals)[]) {
    // also of many only the first counts: cut off at its end, modal-sb would leave sandboxes that cost money
    process.on(signal, () => stop.abort(new StoppedBySignal(signal)));
  }
  let verbose = argv.includes("--verbose");
  try {
    const parsed = parseArguments(argv, packageVersion());
    if (!parsed) return exitCodes.success;
    verbose = parsed.verbose;
    return await run(parsed.request, output, stop.signal);
  } catch (error) {
    if (error instanceof StoppedBySignal) {
      if (output.isTerminal) output.note("\nended by another process");
      return error.exitCode;
    }
    // commander has written its own words
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.success : exitCodes.usage;
    const { text, exitCode } = formatError(error, verbose);
    output.note(text);
    return exitCode;
  }
}

async function run(request: Request, output: Output, stop: AbortSignal): Promise<number> {
  if (request.command === "chat") return await chat(request, output, stop);
  if (request.command === "demo") {
    const { demo } = await import("./demo.ts");
    return await demo(output, stop);
  }
  if (request.command === "init") {
    const { init } = await import("./init.ts");
    return await init(request, output);
  }
  if (request.command === "usage" || request.command === "audit") {
    const { showAudit, showUsage } = await import("./accounts.ts");
    const { config, environment } = await configOfSession(request);
    await using provider = await openProvider(config, environment);
    if (request.command === "usage") return await showUsage(request, provider, config, output);
    return await showAudit(request, provider, config, output, stop);
  }
  if (request.command === "metrics") {
    const { showMetrics } = await import("./metrics.ts");
    const { config, environment } = await configOfSession(request);
    await using provider = await openProvider(config, environment);
    return await showMetrics(request, provider, config, output, stop, environment);
  }
  if (request.command === "sync") {
    const { sync } = await import("./sync.ts");
    const { config, environment } = configOf(request.flags);
    return await sync(request, config, environment, output, stop);
  }
  if (request.command !== "doctor") {
    const { runLifecycle } = await import("./lifecycle.ts");
    return await runLifecycle(request, output, stop);
  }
  const { doctor } = await import("./doctor.ts");
  const { config, environment } = configOf(request.flags);
  await using provider = await openProvider(config, environment);
  return await doctor(config, environment, provider, homedir(), output);
}

/** Of the session that is asked for, or of the latest one; `usage` without a name is about all of a provider. */
async function configOfSession(request: Extract<Request, { command: "usage" | "audit" | "metrics" }>) {
  const { sessionsByTime } = await import("./accounts.ts");
  const { config, environment } = configOf(request.flags);
  const isOfAll = request.command === "usage" || (request.command === "metrics" && request.folder !== undefined);
  const session = request.session ?? (isOfAll ? undefined : sessionsByTime(config).at(-1));
  return { config: configForSession(config, session), environment };
}

function packageVersion(): string {
  const file = new URL("../../package.json", import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}
