/** Lengths of time and amounts of money, short enough for a table. */

/** "45 s", "12 min", "3 h 05 min", "2 d 4 h"; "over" when it is negative. */
export function spanWords(ms: number): string {
  if (!Number.isFinite(ms)) return "-";
  if (ms < 0) return "over";
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** US dollars: cents, and more places below one. */
export function dollars(usd: number): string {
  return `$${usd.toFixed(usd !== 0 && Math.abs(usd) < 1 ? 4 : 2)}`;
}
