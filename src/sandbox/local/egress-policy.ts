/** May a sandbox connect to this hostname and port? Pure; default is no. */
import { isIP } from "node:net";
import type { EgressPolicy } from "../provider.ts";
import type { Endpoint } from "./package-indexes.ts";

/** `private`: may resolve to any address, because the host's own settings name it. */
export type EgressDecision = { allow: true; private: boolean } | { allow: false; reason: string; message: string };

const openPorts = [80, 443];

/** Decides on what a client of the egress filter asked for; `trusted` are the package indexes of the host's settings. */
export function decideEgress(policy: EgressPolicy, trusted: readonly Endpoint[], asked: Endpoint): EgressDecision {
  const hostname = asked.hostname.toLowerCase().replace(/\.$/, "");
  if (trusted.some((endpoint) => endpoint.hostname === hostname && endpoint.port === asked.port)) {
    return { allow: true, private: true };
  }
  if (policy.kind === "host") return refusal("no_network", "this sandbox has no egress filter");
  if (!openPorts.includes(asked.port)) {
    return refusal("port_not_allowed", `port ${asked.port} is closed; ports 80 and 443 are open`);
  }
  if (policy.kind === "dangerously-allow-all-hostnames") return { allow: true, private: false };
  if (isIP(hostname.replace(/^\[|\]$/g, "")) !== 0) {
    return refusal("address_not_allowed", "connect by hostname: addresses are refused");
  }
  if (policy.hostnames.some((pattern) => matchesHostname(pattern, hostname))) return { allow: true, private: false };
  const list = [...policy.hostnames, ...trusted.map((endpoint) => endpoint.hostname)];
  const allowed = list.length === 0 ? "no hostname is" : `these are: ${[...new Set(list)].join(", ")}`;
  return refusal("hostname_not_allowed", `"${hostname}" is not allowed by the egress policy; ${allowed}`);
}

/** `*.example.com` stands for every name below example.com, not for example.com itself. */
export function matchesHostname(pattern: string, hostname: string): boolean {
  const wanted = pattern.toLowerCase();
  return wanted.startsWith("*.")
    ? hostname.endsWith(wanted.slice(1)) && hostname.length > wanted.length - 1
    : hostname === wanted;
}

function refusal(reason: string, message: string): EgressDecision {
  return { allow: false, reason, message };
}
