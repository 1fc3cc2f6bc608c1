/** Microseconds of the machine's monotonic clock: the same in every process, unlike performance.now(). */
export function microseconds(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e6 + Math.round(nanoseconds / 1000);
}
