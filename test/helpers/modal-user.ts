/** A user of Modal: an account in the emulator with Modal Secrets, an API that answers to the key in them, the command line. */
import type { TestContext } from "node:test";
import { type Emulator, type EmulatorOptions, startEmulator, whyNot } from "../modal-emulator/emulator.ts";
import { type Ended, type RunOptions, User } from "./cli.ts";

export interface ModalUser extends AsyncDisposable {
  user: User;
  emulator: Emulator;
  /** variables for the command line; no credential is among them */
  env: Record<string, string | undefined>;
  /** `modal-sb --on modal` with these arguments */
  run(argv: readonly string[], options?: RunOptions): Promise<Ended>;
  start(argv: readonly string[], options?: RunOptions): ReturnType<User["start"]>;
}

/** False, with the reason as the test's skip, when this machine cannot emulate Modal. */
export async function canEmulate(context: TestContext): Promise<boolean> {
  const reason = await whyNot();
  if (reason !== undefined) context.skip(reason);
  return reason === undefined;
}

/** `world` and `secrets` come beside those of the API. */
export async function modalUser(options: EmulatorOptions = {}): Promise<ModalUser> {
  await using undo = new AsyncDisposableStack();
  const user = undo.use(await User.create());
  const emulator = undo.use(
    await startEmulator({
      ...options,
      world: { "api.anthropic.com": new URL(user.api.origin).host, ...options.world },
      secrets: { "anthropic-secret": { ANTHROPIC_API_KEY: user.key }, ...options.secrets },
    }),
  );
  const owned = undo.move();
  const env = {
    ...{ ANTHROPIC_API_KEY: undefined, MODAL_SB_ANTHROPIC_ORIGIN: undefined, MODAL_SB_PROVIDER: "modal" },
    ...emulator.environment,
  };
  const withEnv = (given: RunOptions = {}): RunOptions => ({ ...given, env: { ...env, ...given.env } });
  return {
    user,
    emulator,
    env,
    run: (argv, given) => user.run(argv, withEnv(given)),
    start: (argv, given) => user.start(argv, withEnv(given)),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
