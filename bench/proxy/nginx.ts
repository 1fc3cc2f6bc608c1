/** nginx with a configuration of our own, in a folder of its own: one process, no master, nothing logged. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { debianFolder } from "./cache.ts";
import { type Child, type cores, startChild } from "./processes.ts";

const version = "nginx=1.22.1-9+deb12u11";

/** `http` are the directives of the http block. */
export async function startNginx(name: string, folder: string, core: keyof typeof cores, http: string): Promise<Child> {
  const binary = join(await debianFolder("nginx", [version]), "usr/sbin/nginx");
  const configPath = join(folder, `${name}.conf`);
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((kind) => `  ${kind}_temp_path ${join(folder, `${name}-${kind}`)};`)
    .join("\n");
  writeFileSync(
    configPath,
    `daemon off;
master_process off;
pid ${join(folder, `${name}.pid`)};
error_log ${join(folder, `${name}-error.log`)};
events { worker_connections 4096; }
http {
${temporary}
  access_log off;
  keepalive_requests 1000000000;
${http}
}
`,
  );
  return startChild({ name, command: [binary, "-p", folder, "-c", configPath], core, folder });
}
