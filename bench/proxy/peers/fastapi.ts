/** The pass-through that one writes in an afternoon with FastAPI and httpx: passthrough.py, under one uvicorn worker. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { pythonFolder } from "../cache.ts";
import { type Side, startServer } from "../side.ts";

const packages = [
  "fastapi==0.165.0",
  "starlette==1.10.0",
  "httpx==0.28.1",
  "httpcore==1.0.9",
  "h11==0.16.0",
  "anyio==4.16.0",
  "uvicorn[standard]==0.54.0",
  "uvloop==0.23.0",
];

export async function startFastApi(origin: string, folder: string): Promise<Side> {
  const python = join(await pythonFolder("fastapi", packages), "bin/python");
  return startServer({
    name: "FastAPI",
    folder,
    env: {
      UPSTREAM: origin,
      UPSTREAM_KEY: `sk-ant-bench-${randomBytes(24).toString("base64url")}`,
      // the program lies in the tree, its compiled form must not
      PYTHONDONTWRITEBYTECODE: "1",
    },
    command: (port) => [
      python,
      ...["-m", "uvicorn", "passthrough:app", "--app-dir", import.meta.dirname],
      ...["--host", "127.0.0.1", "--port", String(port), "--workers", "1", "--no-access-log", "--log-level", "warning"],
    ],
  });
}
