/**
 * The last look before an agent starts: nothing that the host knows as a credential may be visible in the sandbox.
 * Files above `maxFileBytes` are not read, and reading stops after `maxTotalBytes`: credentials live in small files.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { credentialForms, minCredentialLength } from "../credential-forms.ts";
import { CredentialVisibleError } from "../errors.ts";
import type { SandboxSpec } from "../sandbox/provider.ts";
import type { Secret } from "../secret.ts";

const maxFileBytes = 16 * 1024 * 1024;
const maxTotalBytes = 256 * 1024 * 1024;

/** Throws a CredentialVisibleError that names the credential's label and the place, never its value. */
export function refuseVisibleCredentials(spec: SandboxSpec, credentials: ReadonlyMap<string, Secret>): void {
  const needles = [...credentials].flatMap(([label, secret]) => {
    const value = secret.reveal();
    return value.length < minCredentialLength
      ? []
      : credentialForms(value).map((form) => ({ label, form: Buffer.from(form) }));
  });
  const look = (place: string, bytes: Buffer) => {
    const found = needles.find(({ form }) => bytes.includes(form));
    if (found) throw visible(found.label, place);
  };
  for (const [name, value] of Object.entries(spec.env)) look(`the environment variable ${name}`, Buffer.from(value));
  look("the command line", Buffer.from(spec.command.join("\0")));
  for (const { path, bytes } of filesOf(spec)) look(path, bytes);
}

function visible(label: string, place: string): CredentialVisibleError {
  return new CredentialVisibleError(`The credential ${label} would be visible to the agent in ${place}`, {
    hint: "remove it from there, and consider it leaked if an agent has run with it",
  });
}

/** Readable files that the spec places in the sandbox, with their paths there. Links are not followed. */
function* filesOf(spec: SandboxSpec): Generator<{ path: string; bytes: Buffer }> {
  const roots = [
    // installed packages are public, and large; what the user brings is copied
    ...spec.files.filter((file) => file.copy || !file.hostPath.includes("/node_modules/")),
    ...spec.volumes.flatMap(({ volume: { hostPath }, path }) => (hostPath === undefined ? [] : [{ hostPath, path }])),
  ];
  let total = 0;
  for (const root of roots) {
    for (const file of walk(root.hostPath, root.path)) {
      if (file.size > maxFileBytes || total + file.size > maxTotalBytes) continue;
      total += file.size;
      yield { path: file.path, bytes: readFileSync(file.hostPath) };
    }
  }
}

function* walk(hostPath: string, path: string): Generator<{ hostPath: string; path: string; size: number }> {
  const stat = statSync(hostPath, { throwIfNoEntry: false });
  if (stat?.isFile()) yield { hostPath, path, size: stat.size };
  if (!stat?.isDirectory()) return;
  for (const entry of readdirSync(hostPath, { withFileTypes: true })) {
    if (entry.isSymbolicLink()) continue;
    yield* walk(join(hostPath, entry.name), join(path, entry.name));
  }
}
