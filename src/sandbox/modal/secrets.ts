/** Credentials on their way to a trusted sandbox. Modal hands them to the launcher as variables; see launcher.ts. */
import type { Secret as SdkSecret } from "modal";
import { SandboxError, UsageError } from "../../errors.ts";
import { Secret } from "../../secret.ts";
import type { SandboxSpec, StoredSecret } from "../provider.ts";
import { within } from "./calls.ts";
import { isNotFound, modalError } from "./modal-error.ts";
import type { Account } from "./sdk.ts";

const answerMs = 60_000;

export interface HandedSecrets {
  sdkSecrets: SdkSecret[];
  /** words `name=VARIABLE` for the launcher; empty when there are none */
  words: string;
}

/** Looks the stored ones up. A SandboxError says how to store one that is missing. */
export async function handedSecrets(account: Account, { role, secrets }: SandboxSpec): Promise<HandedSecrets> {
  const entries = Object.entries(secrets);
  if (entries.length > 0 && role === "agent")
    throw new UsageError("An agent's sandbox holds no secret", { hint: "give it to the proxy" });
  const inline = entries.filter((entry): entry is [string, Secret] => entry[1] instanceof Secret);
  const stored = entries.filter((entry): entry is [string, StoredSecret] => !(entry[1] instanceof Secret));
  for (const [name] of entries) {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) throw new UsageError(`"${name}" cannot be the name of a secret`);
  }
  const values = Object.fromEntries(inline.map(([name, secret]) => [variableOf(name), secret.reveal()]));
  return {
    sdkSecrets: [
      ...(await Promise.all(stored.map(([, secret]) => lookUp(account, secret)))),
      ...(inline.length > 0 ? [await account.client.secrets.fromObject(values)] : []),
    ],
    words: [
      ...inline.map(([name]) => `${name}=${variableOf(name)}`),
      ...stored.map(([name, secret]) => `${name}=${secret.key}`),
    ].join(" "),
  };
}

function variableOf(name: string): string {
  return `MODAL_SB_SECRET_${name}`;
}

/** Throws the same SandboxError as a sandbox that wants it would. */
export async function lookUp({ client }: Account, { storedAs, key }: StoredSecret): Promise<SdkSecret> {
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(key)) throw new UsageError(`"${key}" cannot be a variable of a Modal Secret`);
  try {
    return await within(answerMs, "for a stored secret", () =>
      client.secrets.fromName(storedAs, { requiredKeys: [key] }),
    );
  } catch (error) {
    if (!isNotFound(error)) throw modalError(error, `look up the secret "${storedAs}"`);
    const where = client.environmentName() === "" ? "" : ` in the environment "${client.environmentName()}"`;
    throw new SandboxError(`Modal has no secret "${storedAs}" with the variable ${key}${where}`, {
      hint: `modal secret create ${storedAs} ${key}=…`,
      cause: error,
    });
  }
}
