import { spawnSync } from "node:child_process";
import { homedir } from "node:os";
import { SandboxError } from "../errors.ts";
import type { Provider } from "../sandbox/provider.ts";

/** As root on Debian and its like, installs what the provider lacks. Elsewhere one clear error says what to do. */
export async function installWhatIsMissing(provider: Provider, note: (text: string) => void): Promise<void> {
  const programs = await missingRequirements(provider, "programs");
  if (programs[0]?.remedy && process.getuid?.() === 0) {
    const command = programs[0].remedy.replace(/^sudo /, "");
    note(`Installing what is missing: ${command}`);
    for (const line of ["apt-get update", command]) {
      spawnSync("/bin/sh", ["-c", line], {
        stdio: ["ignore", 2, 2],
        env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", HOME: homedir(), DEBIAN_FRONTEND: "noninteractive" },
      });
    }
  }
  const [missing] = await missingRequirements(provider);
  if (!missing) return;
  throw new SandboxError(`This machine lacks something: ${missing.name}: ${missing.detail}`, {
    ...(missing.remedy !== undefined && { hint: missing.remedy }),
  });
}

async function missingRequirements(provider: Provider, name?: string) {
  const requirements = await provider.requirements();
  return requirements.filter((found) => found.state === "missing" && (name === undefined || found.name === name));
}
