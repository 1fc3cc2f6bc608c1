/** Where a sandbox may connect to, as Modal enforces it: by the name in the TLS handshake, on port 443. */
import { isIP } from "node:net";
import { SandboxError, UsageError } from "../../errors.ts";
import type { EgressPolicy } from "../provider.ts";

/** Modal takes no more */
const maxDomains = 100;

/** Names for Modal's list; undefined: everything may be reached. An empty list: nothing. */
export function allowedDomains(egress: EgressPolicy): string[] | undefined {
  if (egress.kind === "dangerously-allow-all-hostnames") return undefined;
  if (egress.kind === "host") return egress.hostnames && checked(egress.hostnames);
  const proxy = egress.proxy && new URL(egress.proxy.url).hostname;
  refuseTunnels(egress.hostnames);
  return checked([...(proxy === undefined ? [] : [proxy]), ...egress.hostnames]);
}

/** Tunnels of all customers share a domain: whoever may reach one of a stranger can send anything there. */
function refuseTunnels(hostnames: readonly string[]): void {
  const found = hostnames.find((hostname) => /(^|\.)modal\.host$/i.test(hostname));
  if (found === undefined) return;
  throw new UsageError(`A sandbox on Modal cannot be let reach "${found}"`, {
    hint: "everybody at Modal can serve there; the session's own proxy is reachable without being named",
  });
}

function checked(hostnames: readonly string[]): string[] {
  const unique = [...new Set(hostnames.map((hostname) => hostname.toLowerCase()))];
  for (const hostname of unique) {
    if (isIP(hostname) !== 0 || hostname === "localhost" || hostname.endsWith(".localhost")) {
      throw new UsageError(`A sandbox on Modal cannot be let reach "${hostname}"`, {
        hint: "Modal looks at the name in the TLS handshake: use a public hostname that serves https on port 443",
      });
    }
  }
  if (unique.length > maxDomains) {
    throw new SandboxError(`${unique.length} hostnames are to be reachable, and Modal takes ${maxDomains}`, {
      hint: "name fewer, or use patterns such as *.example.com",
    });
  }
  return unique;
}
