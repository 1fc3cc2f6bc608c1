import { BlockList, isIPv6 } from "node:net";

/**
 * Addresses that a hostname of the internet has no business resolving to: this machine, private networks, link-local
 * ones (cloud metadata lives there), carrier NAT, multicast, and the IPv6 forms that embed an IPv4 address.
 * Source: the IANA special-purpose address registries. One list a family: in a common one, a rule for IPv4-mapped IPv6
 * addresses would match every IPv4 address.
 */
const notPublic = { ipv4: new BlockList(), ipv6: new BlockList() };
for (const [network, bits] of [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["224.0.0.0", 4],
  ["240.0.0.0", 4],
] as const) {
  notPublic.ipv4.addSubnet(network, bits, "ipv4");
}
for (const [network, bits] of [
  ["::", 96],
  ["::ffff:0:0", 96],
  ["64:ff9b::", 96],
  ["64:ff9b:1::", 48],
  ["100::", 64],
  ["2001::", 23],
  ["2002::", 16],
  ["fc00::", 7],
  ["fe80::", 10],
  ["ff00::", 8],
] as const) {
  notPublic.ipv6.addSubnet(network, bits, "ipv6");
}

/** True for an address of the public internet, in the form that getaddrinfo returns. */
export function isPublicAddress(address: string): boolean {
  const family = isIPv6(address) ? "ipv6" : "ipv4";
  return !notPublic[family].check(address, family);
}
