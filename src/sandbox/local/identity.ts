import { readFileSync } from "node:fs";
import type { Role } from "../provider.ts";

/** The host ids that a sandbox's processes have. */
export interface Identity {
  uid: number;
  gid: number;
  /** true when modal-sb runs as root and must change to these ids */
  fromRoot: boolean;
}

/** Id of every process inside a sandbox, whatever it is on the host. */
export const insideUid = 1000;

/**
 * Ids of sandboxes started by root. They lie in the range that systemd's table of ids leaves unused (60578-61183,
 * https://systemd.io/UIDS-GIDS/) and below 65536, so that they exist in containers with one block of ids, too.
 * Each role has its own: an agent that got out, or a file that took over the syncer's reader, would still not be the
 * proxy's user.
 */
const uidsFromRoot: Record<Role, number> = { agent: 61100, proxy: 61101, syncer: 61102 };

/**
 * Root gives up its rights; an ordinary user's sandboxes run as that user, in a user namespace either way. The root of a
 * container that has no other ids is an ordinary user outside it.
 */
export function identityFor(role: Role): Identity {
  const uid = process.getuid?.() ?? insideUid;
  if (uid !== 0 || !exists(uidsFromRoot.syncer)) return { uid, gid: process.getgid?.() ?? uid, fromRoot: false };
  const id = uidsFromRoot[role];
  return { uid: id, gid: id, fromRoot: true };
}

/** Whether the user namespace that we are in has this id, for users and groups alike. */
function exists(id: number): boolean {
  return ["uid_map", "gid_map"].every((map) =>
    readFileSync(`/proc/self/${map}`, "utf8")
      .trim()
      .split("\n")
      .map((line) => line.trim().split(/\s+/).map(Number))
      .some(([first = 0, , count = 0]) => id >= first && id < first + count),
  );
}
