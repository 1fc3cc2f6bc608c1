/** What sandboxes at Modal need: Modal's own package, and an account that answers. */
import { ModalSbError, messageOf } from "../../errors.ts";
import type { Requirement } from "../provider.ts";
import { credentialRemedy } from "./modal-error.ts";
import { type Account, sdkRemedy, strangeSdk } from "./sdk.ts";

/** Asks Modal for the app, which is made when missing: nothing less proves the credentials. */
export async function checkRequirements(account: () => Promise<Account>): Promise<Requirement[]> {
  const strange = strangeSdk();
  const name = "Modal's SDK";
  if (strange !== undefined) return [{ name, state: "missing", detail: strange, remedy: sdkRemedy }];
  return [{ name, state: "ok", detail: "the package is Modal's own" }, await credentialRequirement(account)];
}

async function credentialRequirement(account: () => Promise<Account>): Promise<Requirement> {
  const name = "Modal account";
  try {
    const { app, appName, client } = await account();
    await app();
    const environment = client.environmentName();
    const where = environment === "" ? "" : ` in the environment "${environment}"`;
    return { name, state: "ok", detail: `it answers; sandboxes belong to the app "${appName}"${where}` };
  } catch (error) {
    const remedy = error instanceof ModalSbError ? error.hint : credentialRemedy;
    return { name, state: "missing", detail: messageOf(error), ...(remedy !== undefined && { remedy }) };
  }
}
