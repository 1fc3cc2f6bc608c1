import { BlockList } from "node:net";
import { internetAddress } from "./namespaces.ts";

/** What Modal calls outbound controls: `block_network`, and the allow-lists of domains and CIDRs, which add up. */
export type NetworkPolicy =
  | { kind: "open" }
  | { kind: "blocked" }
  | { kind: "allowlist"; domains: readonly string[]; cidrs: readonly string[] };

/** `serverName`: the name in the ClientHello, in lower case. Nothing else of a connection is looked at. */
export function allows(policy: NetworkPolicy, serverName: string): boolean {
  if (policy.kind !== "allowlist") return policy.kind === "open";
  return policy.cidrs.some(containsInternet) || policy.domains.some((domain) => matches(domain, serverName));
}

/** `*` is everything; `*.example.com` has every name below, and example.com itself, as on Modal. */
function matches(domain: string, serverName: string): boolean {
  const wanted = domain.toLowerCase();
  if (wanted === "*") return true;
  if (!wanted.startsWith("*.")) return serverName === wanted;
  return serverName === wanted.slice(2) || serverName.endsWith(wanted.slice(1));
}

function containsInternet(cidr: string): boolean {
  const [network, bits] = cidr.split("/");
  if (network === undefined || network.includes(":")) return false;
  const list = new BlockList();
  list.addSubnet(network, Number(bits ?? 32));
  return list.check(internetAddress);
}
