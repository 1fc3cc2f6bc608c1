/** Runs the commands for sessions that run. */
import { homedir } from "node:os";
import { knownCredentials } from "../config/known-credentials.ts";
import { type ChatOptions, configOf } from "./chat.ts";
import type { LifecycleRequest } from "./lifecycle-commands.ts";
import { openProvider } from "./open.ts";
import type { Output } from "./output.ts";

/** The exit code. Rejects with the reason of `stop` when that fires. */
export async function runLifecycle(
  request: LifecycleRequest & { flags: ChatOptions["flags"] },
  output: Output,
  stop: AbortSignal,
): Promise<number> {
  const { config, environment } = configOf(request.flags);
  if (request.command === "attach") {
    const { attach } = await import("./attach.ts");
    return await attach(request, config, environment, output, stop);
  }
  await using provider = await openProvider(config, environment);
  switch (request.command) {
    case "ls": {
      const { listSessions } = await import("./ls.ts");
      return await listSessions(request, provider, config, output);
    }
    case "stop": {
      const { stopSessions } = await import("./stop.ts");
      return await stopSessions(request, { provider, config, environment, output, stop });
    }
    case "gc": {
      const { collectOrphans } = await import("./gc.ts");
      return await collectOrphans(request, provider, config, output);
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
