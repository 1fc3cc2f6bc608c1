/** Makes what was written to a volume of Modal outlive the sandbox at once, instead of in some seconds. */
import { execFile } from "node:child_process";

/** Inside Modal's sandboxes `sync` on a mount commits it; a failure leaves it to the commits in the background. */
export function commitVolume(folder: string): void {
  execFile("sync", [folder], () => {});
}
