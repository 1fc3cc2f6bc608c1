/** The credential proxy: parse → identify → decide → inject → stream → account. Fixed upstreams, never a forward proxy. */
import { chmodSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { Audit, type AuditEntry } from "./audit.ts";
import { openControl } from "./control.ts";
import { forward } from "./forward.ts";
import { Grants, type LiveGrant } from "./grants.ts";
import { sandboxKeyOf } from "./identify.ts";
import { refusalOf, splitTarget } from "./policy.ts";
import { type Refusal, refusals, sendRefusal } from "./refusal.ts";
import { Totals } from "./totals.ts";
import type { Upstream } from "./upstream.ts";

export interface ProxyOptions {
  /** unix socket for sandboxes */
  listenPath: string;
  /** unix socket for the host */
  controlPath: string;
  /** file to which one JSON line a request is added */
  auditPath: string;
  upstream: Upstream;
}

/** claude keeps a connection for the next turn */
const keepAliveMs = 120_000;
const maxConnections = 512;

const nothingPassed = {
  model: null,
  inputTokens: 0,
  outputTokens: 0,
  cacheReadTokens: 0,
  cacheWriteTokens: 0,
  bytesIn: 0,
  bytesOut: 0,
};

/** Listens on both sockets; socket files left by a dead proxy are replaced. Disposal aborts what is running. */
export async function startProxy(options: ProxyOptions): Promise<AsyncDisposable> {
  const { upstream } = options;
  const audit = new Audit(options.auditPath);
  const grants = new Grants();
  const totals = new Totals();
  const startedAt = Date.now();
  let credentialRefused = false;

  const account = (entry: AuditEntry) => {
    audit.add(entry);
    totals.add(entry);
  };

  const serve = async (incoming: IncomingMessage, response: ServerResponse) => {
    const started = Date.now();
    const key = sandboxKeyOf(incoming.headers);
    const grant = grants.find(key?.sandboxId ?? "", key?.token ?? "");
    const request = {
      time: new Date(started).toISOString(),
      // only a sandbox that proved itself is named: anyone could claim to be another
      sandboxId: grant?.sandboxId ?? null,
      upstream: upstream.name,
      method: incoming.method ?? "",
      path: splitTarget(incoming.url ?? "").path.slice(0, 200),
    };
    if (!audit.isWritable()) {
      sendRefusal(response, { reason: "audit_unwritable", message: "the audit log cannot be written; try again" });
      return;
    }
    const refusal = decide(grant, upstream, incoming);
    if (refusal) {
      response.shouldKeepAlive = false;
      sendRefusal(response, refusal);
      const { status } = refusals[refusal.reason];
      account({ ...request, ...nothingPassed, status, reason: refusal.reason, ms: Date.now() - started });
      return;
    }
    const outcome = await forward(incoming, response, upstream, (grant as LiveGrant).ended);
    const { credentialRefused: refused, ...figures } = outcome;
    if (refused) credentialRefused = true;
    account({ ...request, ...figures, ms: Date.now() - started });
  };

  const server = createServer({ keepAliveTimeout: keepAliveMs }, (incoming, response) => {
    serve(incoming, response).catch(() => response.destroy());
  });
  server.maxConnections = maxConnections;
  rmSync(options.listenPath, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.listenPath, resolve);
  });
  // the sandboxes' processes run as other users
  chmodSync(options.listenPath, 0o666);
  const control = await openControl(options.controlPath, {
    grants,
    usage: (sandboxId) => totals.of(sandboxId),
    status: () => ({ grants: grants.count, credentialRefused, uptimeMs: Date.now() - startedAt }),
  });

  return {
    async [Symbol.asyncDispose]() {
      await control[Symbol.asyncDispose]();
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
      audit.close();
    },
  };
}

function decide(grant: LiveGrant | undefined, upstream: Upstream, incoming: IncomingMessage): Refusal | undefined {
  if (!grant) {
    return {
      reason: "sandbox_key_refused",
      message: "this sandbox key is unknown, expired or revoked; it cannot be renewed from inside the sandbox",
    };
  }
  if (!grant.upstreams.includes(upstream.name)) {
    return { reason: "upstream_not_granted", message: `this sandbox may not use ${upstream.name}` };
  }
  return refusalOf(upstream.rules, incoming.method ?? "", incoming.url ?? "");
}
