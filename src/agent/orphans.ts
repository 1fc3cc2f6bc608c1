import { readdirSync, readFileSync } from "node:fs";

/**
 * Kills the tool processes that a dead claude left running: they carry its session id in their environment. Tool shells
 * lead sessions of their own, so claude's process group would miss them.
 */
export function killOrphans(claudeSessionId: string): void {
  const mark = `CLAUDE_CODE_SESSION_ID=${claudeSessionId}\0`;
  for (const name of readdirSync("/proc")) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid <= 1 || pid === process.pid) continue;
    try {
      if (`${readFileSync(`/proc/${pid}/environ`, "utf8")}\0`.includes(mark)) process.kill(pid, "SIGKILL");
    } catch {
      // the process ended, or is not ours to read
    }
  }
}
