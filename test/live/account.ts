/** The account of Modal that the suite runs in, and whether there is one. */
import { type Account, hasCredentials, openAccount } from "../../src/sandbox/modal/sdk.ts";

export const liveApp = "modal-sb-live";

/** `older`: the backend that sandboxes with a GPU are made on; it takes others, too. */
export function openLiveAccount(backend: "v1" | "v2" = "v2"): Promise<Account> {
  const options = { app: liveApp, creationsPerHour: 1000, sandboxesV2: backend === "v2" };
  return openAccount(options, process.env);
}

/** Why nothing can be run; undefined when there are credentials. They may be wrong: that is an error, and no reason to skip. */
export async function whyNoAccount(): Promise<string | undefined> {
  const account = await openLiveAccount();
  account.client.close();
  if (hasCredentials(account)) return undefined;
  return "there are no credentials of Modal; set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET, or run `modal token new`";
}

/** True when the address is this machine's: what is behind it is the emulator of the tests. */
export function isEmulated({ client }: Account): boolean {
  const { hostname } = new URL(client.profile.serverUrl);
  return hostname === "127.0.0.1" || hostname === "localhost" || hostname === "[::1]";
}
