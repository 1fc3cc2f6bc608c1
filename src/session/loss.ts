/** What a lost sandbox takes with it, in one line for the user and one for the agent. */
import type { Provider } from "../sandbox/provider.ts";

type Capabilities = Provider["capabilities"];

export function lossWords(capabilities: Capabilities): string {
  return `Kept: the conversation, /app and /data${lateWrites(capabilities)}. Lost: running programs and all other files. The next turn continues in a new sandbox`;
}

/** Sent with the next message. */
export function noteOfLoss(message: string, capabilities: Capabilities): string {
  return `<system-reminder>${message}. You are in a new sandbox now. Lost: every program that was running, and all files outside
/app and /data. Kept: this conversation, /app and /data${lateWrites(capabilities)}. A training that was running must be started again, from its
last checkpoint.</system-reminder>`;
}

function lateWrites({ sharedVolumes }: Capabilities): string {
  return sharedVolumes ? "" : " (but for what was written in the last seconds)";
}
