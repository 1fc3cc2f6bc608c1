/** The environment of a sandbox at Modal, besides what Modal itself sets (MODAL_SANDBOX_ID and others). */
import { SandboxError } from "../../errors.ts";
import type { SandboxSpec } from "../provider.ts";
import { secretsVariable } from "./launcher.ts";

const searchPath = ["/data/venv/bin", "/agent/bin", "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/** Modal's bound on a value, in characters; source: modal.com/docs/guide/secrets */
const maxValueLength = 32_768;

/** `secretWords`: see launcher.ts; empty when there are no secrets. */
export function environmentOf({ role, env }: SandboxSpec, secretWords: string): Record<string, string> {
  for (const [name, value] of Object.entries(env)) {
    if (value.length > maxValueLength) {
      throw new SandboxError(`The variable ${name} has ${value.length} characters, and Modal takes ${maxValueLength}`);
    }
  }
  return {
    PATH: searchPath.join(":"),
    HOME: role === "agent" ? "/data/home" : "/tmp",
    USER: "agent",
    LANG: "C.UTF-8",
    TMPDIR: "/tmp",
    ...env,
    ...(secretWords !== "" && { [secretsVariable]: secretWords }),
  };
}
