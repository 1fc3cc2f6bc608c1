import assert from "node:assert/strict";
import { test } from "node:test";
import { isPublicAddress } from "../../src/sandbox/local/address-rules.ts";
import { decideEgress, matchesHostname } from "../../src/sandbox/local/egress-policy.ts";

const policy = { kind: "allow", hostnames: ["pypi.org", "*.example.com"] } as const;
const trusted = [{ hostname: "mirror.internal", port: 8443 }];
const decide = (hostname: string, port = 443) => decideEgress(policy, trusted, { hostname, port });

test("matchesHostname() takes a name as it is, and a star for names below only", () => {
  assert.ok(matchesHostname("pypi.org", "pypi.org"));
  assert.ok(matchesHostname("*.example.com", "a.example.com"));
  assert.ok(matchesHostname("*.example.com", "a.b.example.com"));
  for (const hostname of ["example.com", "evilexample.com", "a.example.com.evil", ".example.com"]) {
    assert.ok(!matchesHostname("*.example.com", hostname), hostname);
  }
  for (const hostname of ["xpypi.org", "pypi.org.evil", "a.pypi.org", ""])
    assert.ok(!matchesHostname("pypi.org", hostname));
});

test("decideEgress() allows the policy's names on web ports, and the host's indexes on theirs", () => {
  for (const [hostname, port] of [
    ["pypi.org", 443],
    ["PyPI.org.", 80],
    ["a.example.com", 443],
  ] as const) {
    assert.deepEqual(decide(hostname, port), { allow: true, private: false }, hostname);
  }
  assert.deepEqual(decide("mirror.internal", 8443), { allow: true, private: true });
});

test("decideEgress() refuses all else, with a reason that names what is allowed", () => {
  const cases: [hostname: string, port: number, reason: string][] = [
    ["evil.example", 443, "hostname_not_allowed"],
    ["pypi.org", 22, "port_not_allowed"],
    ["mirror.internal", 443, "hostname_not_allowed"],
    ["127.0.0.1", 443, "address_not_allowed"],
    ["[::1]", 443, "address_not_allowed"],
    ["93.184.216.34", 443, "address_not_allowed"],
  ];
  for (const [hostname, port, reason] of cases) {
    const decision = decide(hostname, port);
    assert.ok(!decision.allow && decision.reason === reason, `${hostname}:${port} ${JSON.stringify(decision)}`);
  }
  const decision = decide("evil.example");
  assert.match(decision.allow ? "" : decision.message, /pypi\.org.*\*\.example\.com/);
});

test("an empty list allows nothing", () => {
  assert.equal(decideEgress({ kind: "allow", hostnames: [] }, [], { hostname: "pypi.org", port: 443 }).allow, false);
});

test("isPublicAddress() is false for everything that is not of the public internet", () => {
  const closed = [
    "127.0.0.1",
    "127.255.255.255",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "fd12::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:a9fe:a9fe",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
  ];
  for (const address of closed) assert.equal(isPublicAddress(address), false, address);
  for (const address of ["1.1.1.1", "93.184.216.34", "172.32.0.1", "2606:4700::1111"]) {
    assert.equal(isPublicAddress(address), true, address);
  }
});
