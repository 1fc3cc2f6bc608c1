import { ServerFailure } from "./trackio-server.ts";
import type { Watermarks } from "./watermarks.ts";

const hourMs = 3_600_000;

/** Counts bytes before they leave, over restarts, too; what it returns throws a ServerFailure when the hour's share is used up. */
export function hourlyCap(watermarks: Watermarks, maxBytes: number): (bytes: number) => void {
  return (bytes) => {
    const now = Date.now();
    // a single request that is larger than the share goes out in an hour of its own
    const used = watermarks.sentInHour(now);
    if (used > 0 && used + bytes > maxBytes) {
      const mib = Math.round(maxBytes / 1024 / 1024);
      const words = `the ${mib} MiB that may leave in an hour are used up`;
      throw new ServerFailure("later", words, hourMs - (now % hourMs));
    }
    watermarks.countSent(now, bytes);
  };
}
