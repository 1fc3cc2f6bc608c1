/** The SDK's own rule for which of Modal's two backends made a sandbox: the older one's ids have 22 letters and digits. */
export function isOlderBackend(sandboxId: string): boolean {
  return /^sb-[0-9A-Za-z]{22}$/.test(sandboxId);
}
