import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Bind } from "./bwrap-arguments.ts";
import { insideUid } from "./identity.ts";

/** Name by which a sandbox reaches the credential proxy; error texts of clients print it. */
export const proxyHostname = "modal-sb-proxy";

/** Host files that programs need and that say nothing about the user. */
const sharedPaths = [
  "/etc/ssl/certs",
  "/etc/ssl/openssl.cnf",
  "/etc/ca-certificates",
  "/etc/ca-certificates.conf",
  "/etc/alternatives",
  "/etc/ld.so.cache",
  "/etc/ld.so.conf",
  "/etc/ld.so.conf.d",
  "/etc/localtime",
  "/etc/mime.types",
  "/etc/protocols",
  "/etc/services",
  "/etc/python3",
  "/etc/python3.11",
  "/etc/python3.12",
  "/etc/python3.13",
];
/** A sandbox on the host's network needs the host's names, too. */
const networkPaths = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"];

/** Writes the sandbox's own /etc files into `folder` and returns what to bind. The host's passwd is not among them. */
export async function curatedEtc(folder: string, hostname: string, network: "own" | "host"): Promise<Bind[]> {
  const files: Record<string, string> = {
    passwd: `agent:x:${insideUid}:${insideUid}:agent:/data/home:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n`,
    group: `agent:x:${insideUid}:\nnogroup:x:65534:\n`,
    ...(network === "own" && {
      hosts: `127.0.0.1 localhost ${proxyHostname} ${hostname}\n::1 localhost\n`,
      "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    }),
  };
  await mkdir(folder, { recursive: true, mode: 0o755 });
  await Promise.all(Object.entries(files).map(([name, text]) => writeFile(join(folder, name), text, { mode: 0o644 })));
  return [
    ...[...sharedPaths, ...(network === "host" ? networkPaths : [])].map((path) => ({
      hostPath: path,
      path,
      writable: false,
      optional: true,
    })),
    ...Object.keys(files).map((name) => ({ hostPath: join(folder, name), path: `/etc/${name}`, writable: false })),
  ];
}
