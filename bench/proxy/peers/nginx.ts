/** nginx, one worker, connections to the upstream kept, answers passed on as they come (a stream of events needs that). */
import { randomBytes } from "node:crypto";
import { startNginx } from "../nginx.ts";
import { freePort } from "../processes.ts";
import { type Side, sideOf } from "../side.ts";

export async function startNginxPeer(origin: string, folder: string): Promise<Side> {
  const port = await freePort();
  const http = `
  upstream api { server ${new URL(origin).host}; keepalive 64; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://api;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header x-api-key sk-ant-bench-${randomBytes(24).toString("base64url")};
      proxy_buffering off;
    }
  }`;
  return sideOf("nginx", await startNginx("nginx", folder, "proxy", http), port, {});
}
