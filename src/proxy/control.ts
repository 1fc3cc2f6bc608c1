/** What the host may ask of the proxy. After `follow`, events come between the answers. */
import { type ControlPeer, type ControlRequest, openControlServer } from "../control-server.ts";
import { usdOf } from "./cost.ts";
import type { Credentials } from "./credentials.ts";
import { parseGrant, parseGrantChange } from "./grant.ts";
import type { Grants } from "./grants.ts";
import type { Ledger } from "./ledger.ts";
import type { Pace } from "./pace.ts";

export interface ControlTarget {
  grants: Grants;
  ledger: Ledger;
  pace: Pace;
  credentials: Credentials;
  status(): object;
  onRotated(): void;
  serveAt(origin: string): void;
  /** Calls the listener for each event from now on; returns the function that ends it. */
  follow(listener: (event: { event: string }) => void): () => void;
}

export function openControl(path: string, target: ControlTarget): Promise<AsyncDisposable> {
  return openControlServer(path, (request, peer) => {
    if (request["op"] !== "follow") return perform(request, target);
    follow(request, target, peer);
    return {};
  });
}

function follow({ events }: ControlRequest, target: ControlTarget, peer: ControlPeer): void {
  const wanted = Array.isArray(events) ? events : ["audit", "notice"];
  peer.onClose(target.follow((event) => wanted.includes(event.event) && peer.send(event)));
}

function perform(
  request: ControlRequest,
  { grants, ledger, pace, credentials, status, onRotated, serveAt }: ControlTarget,
): object {
  switch (request["op"]) {
    case "grant":
      grants.add(parseGrant(request));
      return {};
    case "change":
      grants.change(wordOf(request, "sandboxId"), parseGrantChange(request));
      return {};
    case "revoke":
      grants.revoke(wordOf(request, "sandboxId"));
      return {};
    case "revoke_all":
      grants.revokeAll();
      return {};
    case "rotate":
      credentials.set(wordOf(request, "name"), wordOf(request, "value"));
      onRotated();
      return {};
    case "serve_at":
      serveAt(wordOf(request, "origin"));
      return {};
    case "usage": {
      const account = wordOf(request, "account");
      const { nanoUsd, ...spending } = ledger.spendingOf(account);
      return { ...spending, usd: usdOf(nanoUsd), running: pace.runningOf(account) };
    }
    case "status":
      return status();
    default:
      throw new Error(
        "Unknown op: it is one of grant, change, revoke, revoke_all, rotate, serve_at, usage, status, follow",
      );
  }
}

function wordOf(request: ControlRequest, field: string): string {
  const word = request[field];
  if (typeof word !== "string" || word === "") throw new Error(`${field} must be a word`);
  return word;
}
