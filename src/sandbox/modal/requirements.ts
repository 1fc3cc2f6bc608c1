/** What sandboxes at Modal need: Modal's own package, an account that answers, and the credentials that are kept there. */
import { ModalSbError, messageOf } from "../../errors.ts";
import type { Requirement, StoredSecret } from "../provider.ts";
import { credentialRemedy } from "./modal-error.ts";
import { type Account, sdkRemedy, strangeSdk } from "./sdk.ts";
import { lookUp } from "./secrets.ts";

/** Asks Modal for the app, which is made when missing: nothing less proves the credentials. Then for each of `secrets`. */
export async function checkRequirements(
  open: () => Promise<Account>,
  secrets: readonly StoredSecret[],
): Promise<Requirement[]> {
  const strange = strangeSdk();
  const name = "Modal's SDK";
  if (strange !== undefined) return [{ name, state: "missing", detail: strange, remedy: sdkRemedy }];
  const own: Requirement = { name, state: "ok", detail: "the package is Modal's own" };
  try {
    const account = await open();
    await account.app();
    const stored = await Promise.all(secrets.map((secret) => secretRequirement(account, secret)));
    return [own, accountThere(account), ...stored];
  } catch (error) {
    return [own, missing("Modal account", error)];
  }
}

function accountThere({ appName, client }: Account): Requirement {
  const environment = client.environmentName();
  const where = environment === "" ? "" : ` in the environment "${environment}"`;
  return { name: "Modal account", state: "ok", detail: `it answers; sandboxes belong to the app "${appName}"${where}` };
}

async function secretRequirement(account: Account, secret: StoredSecret): Promise<Requirement> {
  const name = `Modal Secret ${secret.storedAs}`;
  try {
    await lookUp(account, secret);
    return { name, state: "ok", detail: `it has the variable ${secret.key}` };
  } catch (error) {
    return missing(name, error);
  }
}

function missing(name: string, error: unknown): Requirement {
  const remedy = error instanceof ModalSbError ? error.hint : credentialRemedy;
  return { name, state: "missing", detail: messageOf(error), ...(remedy !== undefined && { remedy }) };
}
