/** `modal-sb attach`: the conversation of a session that was left running goes on, from where it is. */
import type { Config, Environment } from "../config/load.ts";
import { converse } from "./chat.ts";
import { Ending } from "./ending.ts";
import { isToBeLeft, leave, leaveOnHangUp } from "./leave.ts";
import { openConfiguredSession, openProvider } from "./open.ts";
import type { Output } from "./output.ts";
import { chooseSession, runningSessions } from "./running.ts";

export interface AttachRequest {
  /** undefined: the only one that runs */
  session: string | undefined;
  format: "text" | "stream-json";
  /** leave it running again at the end without a question */
  detach: boolean;
}

/** Shows the running turn from its beginning, then goes on as the main command does. Throws a UsageError when it does not run. */
export async function attach(
  request: AttachRequest,
  config: Config,
  environment: Environment,
  output: Output,
  stop: AbortSignal,
): Promise<number> {
  using ending = new Ending(output);
  await using provider = await openProvider(config, environment);
  const { name } =
    request.session === undefined
      ? chooseSession(undefined, await runningSessions(provider), config)
      : { name: request.session };
  await using session = await openConfiguredSession({ config, environment, provider, name, attachOnly: true });
  // nobody types to a session that is not there
  await session.ready;
  let exitCode: number;
  try {
    exitCode = await converse(session, { message: undefined, format: request.format }, output, stop);
  } catch (error) {
    await leaveOnHangUp(session, stop);
    throw error;
  } finally {
    ending.begin();
  }
  const leaving = { provider, name, output, isAsked: request.detach };
  if (await isToBeLeft(leaving)) await leave(session, leaving);
  return exitCode;
}
