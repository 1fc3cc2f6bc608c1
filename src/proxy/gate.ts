/** A request's way through the proxy: parse → identify → decide → set aside → forward → account. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Audit, AuditEntry } from "./audit.ts";
import type { Budget } from "./budget.ts";
import { chargedUsage, withInput } from "./charge.ts";
import type { Connections } from "./connections.ts";
import { noUsage, type Reservation, type Usage, usdOf } from "./cost.ts";
import type { Credentials } from "./credentials.ts";
import { forward, type Outcome } from "./forward.ts";
import type { Grants, LiveGrant } from "./grants.ts";
import { hasKey, sandboxKeyOf } from "./identify.ts";
import type { Hold, Ledger } from "./ledger.ts";
import type { Pace } from "./pace.ts";
import { readBody } from "./read-body.ts";
import { type Refusal, type RefusalStyle, sendRefusal, statusOf } from "./refusal.ts";
import { splitTarget, type Target } from "./target.ts";
import type { Timeouts } from "./timeouts.ts";
import { type Decision, type Upstream, upstreamOf } from "./upstreams/upstream.ts";
import { UsageMeter } from "./usage-meter.ts";
import { malformationOf } from "./well-formed.ts";

/** What the host is told as it happens. */
export interface Notice {
  kind: "unknown_price" | "credential_refused";
  /** of the upstream, or of the model */
  name: string;
}

export interface GateParts {
  upstreams: readonly Upstream[];
  credentials: Credentials;
  connections: Connections;
  grants: Grants;
  ledger: Ledger;
  budget: Budget;
  pace: Pace;
  audit: Audit;
  pingMs: number;
  publicOrigin: () => string;
  timeouts: Timeouts;
  onNotice: (notice: Notice) => void;
}

/** What is known of a request before it is judged. */
interface Arrival {
  incoming: IncomingMessage;
  response: ServerResponse;
  /** below the upstream's prefix */
  target: Target;
  started: number;
  entry: Pick<AuditEntry, "time" | "sandboxId" | "upstream" | "method" | "path">;
}

const nothingPassed = {
  model: null,
  requestId: null,
  inputTokens: 0,
  outputTokens: 0,
  cacheReadTokens: 0,
  cacheWriteTokens: 0,
  cost: 0,
  bytesIn: 0,
  bytesOut: 0,
};

export class Gate {
  readonly #parts: GateParts;
  readonly #pricesAsked = new Set<string>();

  constructor(parts: GateParts) {
    this.#parts = parts;
  }

  /** Answers the request, whatever it is. `stopping` refuses it with a word that says to come back. */
  async serve(incoming: IncomingMessage, response: ServerResponse, stopping: boolean): Promise<void> {
    const { upstreams, grants, audit } = this.#parts;
    const started = Date.now();
    const whole = splitTarget(incoming.url ?? "");
    const upstream = upstreamOf(upstreams, whole.path);
    const key = sandboxKeyOf(incoming.headers);
    const grant = grants.find(key?.sandboxId ?? "", key?.token ?? "");
    const arrival: Arrival = {
      incoming,
      response,
      target: { ...whole, path: whole.path.slice(upstream?.prefix.length ?? 0) },
      started,
      entry: {
        time: new Date(started).toISOString(),
        // only a sandbox that proved itself is named: anyone could claim to be another
        sandboxId: grant?.sandboxId ?? null,
        upstream: upstream?.name ?? null,
        method: incoming.method ?? "",
        path: whole.path.slice(0, 200),
      },
    };
    const style = upstream?.style ?? "plain";
    if (!audit.isWritable()) return sendRefusal(response, unwritable, style);
    const refusal =
      malformationOf(incoming) ??
      (stopping ? stoppingNow : undefined) ??
      (hasKey(incoming.headers) ? undefined : missingKey) ??
      refusalOf(grant, upstream);
    if (refusal || !grant || !upstream) return this.#refuse(arrival, refusal ?? unknownKey, style, grant);
    const decision = decide(arrival, upstream, grant);
    if ("refusal" in decision) return this.#refuse(arrival, decision.refusal, style, grant);
    const tooFast = this.#parts.pace.enter(grant.account, grant.limits);
    if (tooFast) return this.#refuse(arrival, tooFast, style, grant);
    try {
      await this.#pass(arrival, upstream, grant, decision);
    } finally {
      this.#parts.pace.leave(grant.account);
    }
  }

  /** What of a request that may begin depends on its body. */
  async #pass(
    arrival: Arrival,
    upstream: Upstream,
    grant: LiveGrant,
    { target, judge }: Exclude<Decision, { refusal: Refusal }>,
  ): Promise<void> {
    const { incoming } = arrival;
    const hasBody = incoming.method !== "GET" && incoming.method !== "HEAD";
    if (!judge) return this.#send(arrival, upstream, grant, target, hasBody ? "stream" : undefined, undefined);
    const body = await readBody(incoming, upstream.maxBodyBytes, this.#parts.timeouts.bodyMs);
    if (body === undefined) return this.#account(arrival, leftEarly, undefined, noUsage, 0);
    if (!Buffer.isBuffer(body)) return this.#refuse(arrival, body, upstream.style, grant);
    const judgement = judge(body);
    if ("refusal" in judgement) return this.#refuse(arrival, judgement.refusal, upstream.style, grant);
    if (judgement.warning !== undefined) this.#warnOfPrice(judgement.reservation?.model ?? "");
    // the body took its time
    if (!this.#parts.grants.isLive(grant)) return this.#refuse(arrival, unknownKey, upstream.style, grant);
    return this.#send(arrival, upstream, grant, target, body, judgement.reservation);
  }

  async #send(
    arrival: Arrival,
    upstream: Upstream,
    grant: LiveGrant,
    target: string,
    body: Buffer | "stream" | undefined,
    reservation: Reservation | undefined,
  ): Promise<void> {
    const { credentials, connections, budget, pingMs, publicOrigin, timeouts } = this.#parts;
    const { incoming, response } = arrival;
    let meter: UsageMeter | undefined;
    const held = reservation && (await this.#setAside(grant, reservation, () => meter));
    if (held && "reason" in held) return this.#refuse(arrival, held, upstream.style, grant);
    const { credential } = upstream;
    const spent = budget.headerOf(grant);
    const outcome = await forward({
      incoming,
      response,
      upstream,
      target,
      body,
      credential: credential && credentials.header(credential.name, credential.injection),
      needles: credentials.forms,
      ownHeaders: spent === undefined ? [] : ["x-modal-sb-budget", spent],
      meter: {
        begin: (status, contentType) => {
          if (reservation && status < 300) meter = new UsageMeter(contentType);
          return meter;
        },
      },
      pingMs,
      running: grant.running,
      connections,
      timeouts,
      publicOrigin: publicOrigin(),
    });
    if (outcome.credentialRefused) this.#parts.onNotice({ kind: "credential_refused", name: upstream.name });
    const usage = reservation ? chargedUsage(outcome, meter, reservation) : noUsage;
    const cost = held ? budget.settle(grant, held, usage, meter?.model ?? null) : 0;
    if (!held) this.#parts.ledger.count(grant.account, { requests: 1 });
    this.#account(arrival, outcome, meter?.model ?? reservation?.model, usage, usdOf(cost));
  }

  /** Puts what the request may cost on file, before a byte of it is sent. */
  async #setAside(
    grant: LiveGrant,
    reservation: Reservation,
    meter: () => UsageMeter | undefined,
  ): Promise<Hold | Refusal> {
    const { budget, ledger } = this.#parts;
    const refusal = budget.refusalOf(grant, reservation);
    if (refusal) return refusal;
    const hold = ledger.hold(grant.account, reservation, () => {
      const usage = withInput(meter()?.known ?? noUsage, reservation.inputTokens);
      return { usage, nanoUsd: budget.costOf(usage, meter()?.model ?? reservation.model) };
    });
    try {
      await ledger.saved;
      return hold;
    } catch {
      budget.settle(grant, hold, noUsage, null);
      return unwritable;
    }
  }

  #refuse({ response, entry, started }: Arrival, refusal: Refusal, style: RefusalStyle, grant?: LiveGrant): void {
    sendRefusal(response, refusal, style);
    if (grant) this.#parts.ledger.count(grant.account, { requests: 1, refused: 1 });
    this.#parts.audit.addRefusal(
      {
        ...entry,
        ...nothingPassed,
        status: statusOf(refusal.reason, style),
        reason: refusal.reason,
        ms: Date.now() - started,
      },
      !grant,
    );
  }

  #account({ entry, started }: Arrival, outcome: Outcome, model: string | undefined, usage: Usage, cost: number): void {
    const { status, reason, requestId, bytesIn, bytesOut } = outcome;
    const { inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens } = usage;
    this.#parts.audit.add({
      ...entry,
      model: model ?? null,
      status,
      reason,
      requestId,
      ...{ inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens, cost, bytesIn, bytesOut },
      ms: Date.now() - started,
    });
  }

  #warnOfPrice(model: string): void {
    if (this.#pricesAsked.has(model) || this.#pricesAsked.size > 100) return;
    this.#pricesAsked.add(model);
    this.#parts.onNotice({ kind: "unknown_price", name: model });
  }
}

const missingKey: Refusal = {
  reason: "sandbox_key_missing",
  message: "the request has no sandbox key; in the agent's environment it is MODAL_SB_SANDBOX_KEY",
};
const unknownKey: Refusal = {
  reason: "sandbox_key_refused",
  message: "this sandbox key is unknown, expired or revoked; it cannot be renewed from inside the sandbox",
};
const unwritable: Refusal = { reason: "audit_unwritable", message: "what is spent cannot be written down; try again" };
const stoppingNow: Refusal = { reason: "stopping", message: "the proxy is being stopped; try again" };
const leftEarly: Outcome = {
  status: 0,
  reason: "client_gone",
  requestId: null,
  bytesIn: 0,
  bytesOut: 0,
  credentialRefused: false,
};

function refusalOf(grant: LiveGrant | undefined, upstream: Upstream | undefined): Refusal | undefined {
  if (!grant) return unknownKey;
  if (!upstream) return { reason: "path_not_allowed", message: "no upstream has this path" };
  if (Object.hasOwn(grant.upstreams, upstream.name)) return undefined;
  return { reason: "upstream_not_granted", message: `this sandbox may not use ${upstream.name}` };
}

function decide({ incoming, target }: Arrival, upstream: Upstream, grant: LiveGrant): Decision {
  const { headers, method = "" } = incoming;
  const encoding = headers["content-encoding"] ?? "identity";
  if (encoding !== "identity" && !upstream.takesEncodedBodies) {
    return { refusal: { reason: "bad_request", message: "the body must come as it is, not compressed" } };
  }
  if (Number(headers["content-length"] ?? 0) > upstream.maxBodyBytes) {
    return { refusal: { reason: "body_too_large", message: `a body may have ${upstream.maxBodyBytes} bytes` } };
  }
  const header = (name: string) => {
    const value = headers[name];
    return Array.isArray(value) ? value.join(", ") : value;
  };
  return upstream.decide({ method, path: target.path, query: target.query, header }, grant);
}
