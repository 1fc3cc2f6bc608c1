/** Runs the commands for sessions that run. */
import { homedir } from "node:os";
import { knownCredentials } from "../config/known-credentials.ts";
import type { Environment } from "../config/load.ts";
import { exitCodes, ModalSbError } from "../errors.ts";
import { type ChatOptions, configOf } from "./chat.ts";
import type { LifecycleRequest } from "./lifecycle-commands.ts";
import type { Output } from "./output.ts";
import { type Chosen, openProviders, providerOfSession } from "./providers.ts";

interface Context {
  environment: Environment;
  output: Output;
  stop: AbortSignal;
}

/** The exit code. Rejects with the reason of `stop` when that fires. */
export async function runLifecycle(
  request: LifecycleRequest & { flags: ChatOptions["flags"] },
  output: Output,
  stop: AbortSignal,
): Promise<number> {
  const { config, environment } = configOf(request.flags);
  await using undo = new AsyncDisposableStack();
  const chosen = await openProviders(config, environment, output, undo);
  const context = { environment, output, stop };
  if (request.command === "ls") {
    const { listSessions } = await import("./ls.ts");
    return await listSessions(request, chosen, output);
  }
  if (request.command === "gc") {
    const { collectOrphans } = await import("./gc.ts");
    return await onEach(chosen, output, (one) => collectOrphans(request, one.provider, one.config, output));
  }
  if (request.command === "stop" && request.all) {
    const { stopSessions } = await import("./stop.ts");
    return await onEach(chosen, output, (one) => stopSessions(request, { ...one, ...context }));
  }
  return await runOnSession(request, await providerOfSession(request.session, chosen, output), context);
}

/** One after the other, all of them; then the first failure. */
export async function onEach(
  chosen: readonly Chosen[],
  output: Output,
  run: (one: Chosen) => Promise<number>,
): Promise<number> {
  let exitCode: number = exitCodes.success;
  let failure: ModalSbError | undefined;
  for (const one of chosen) {
    if (chosen.length > 1) output.note(output.bold(`${one.provider.name}:`));
    try {
      // not `||= await`: that would leave the next one out
      const ended = await run(one);
      exitCode ||= ended;
    } catch (error) {
      if (!(error instanceof ModalSbError)) throw error;
      failure ??= error;
    }
  }
  if (failure) throw failure;
  return exitCode;
}

async function runOnSession(
  request: Exclude<LifecycleRequest, { command: "ls" | "gc" }>,
  { provider, config }: Chosen,
  { environment, output, stop }: Context,
): Promise<number> {
  switch (request.command) {
    case "attach": {
      const { attach } = await import("./attach.ts");
      return await attach(request, config, environment, output, stop);
    }
    case "stop": {
      const { stopSessions } = await import("./stop.ts");
      return await stopSessions(request, { provider, config, environment, output, stop });
    }
    case "logs": {
      const { showLogs } = await import("./logs.ts");
      return await showLogs(request, provider, config, output);
    }
    case "shell": {
      const { shell } = await import("./shell.ts");
      return await shell(request, provider, config, output, stop);
    }
    case "pull":
    case "push": {
      const [{ pullFiles, pushFiles }, { openAgent }] = await Promise.all([
        import("./transfer.ts"),
        import("./running.ts"),
      ]);
      const agent = await openAgent(request.session, provider, config);
      try {
        if (request.command === "pull") return await pullFiles(request, agent, output, stop);
        return await pushFiles(request, agent, knownCredentials(environment, homedir()), output, stop);
      } finally {
        await agent.release();
      }
    }
  }
}
