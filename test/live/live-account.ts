/** What others have at an emulator while the live suite runs there. */
import { type Account, openAccount } from "../../src/sandbox/modal/sdk.ts";
import type { Emulator } from "../modal-emulator/emulator.ts";
import type { Backend } from "./cloud.ts";

export interface OpenAccounts extends Disposable {
  account: Account;
  older: Account;
}

export async function openAccountOf(emulator: Emulator, app: string): Promise<OpenAccounts> {
  const open = (sandboxesV2: boolean) =>
    openAccount({ app, creationsPerHour: 100, sandboxesV2 }, { ...emulator.environment });
  const [account, older] = [await open(true), await open(false)];
  const close = () => [account, older].forEach(({ client }) => void client.close());
  return { account, older, [Symbol.dispose]: close };
}

/** The id of a sandbox that does nothing. */
export async function sleeping(
  { account, older }: OpenAccounts,
  backend: Backend,
  tags: Record<string, string>,
): Promise<string> {
  const { client, app } = backend === "v1" ? older : account;
  const image = client.images.fromRegistry("python:3.12-slim-bookworm");
  const sandbox = await client.sandboxes.create(await app(), image, { command: ["sleep", "600"], tags });
  return sandbox.sandboxId;
}
