#!/usr/bin/env node
// The entry for any Node: goes on with the one that the package brings when this one is too old.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import module from "node:module";
import { fileURLToPath } from "node:url";

const [major, minor] = process.versions.node.split(".").map(Number);
const isRecent = major > 24 || (major === 24 && minor >= 12);

if (isRecent) {
  module.enableCompileCache?.();
  const source = new URL("../src/cli/main.ts", import.meta.url);
  const built = new URL("../dist/cli/main.js", import.meta.url);
  const { main } = await import((existsSync(source) ? source : built).href);
  process.exit(await main(process.argv.slice(2)));
} else {
  // our own development dependency in a checkout, or one that a project has beside us
  const places = ["../node_modules/node/bin/node", "../../node/bin/node"];
  const bundled = places.map((place) => fileURLToPath(new URL(place, import.meta.url))).find(existsSync);
  if (bundled === undefined) {
    process.stderr.write(`error: modal-sb needs Node 24.12 or later, and this is ${process.versions.node}\n`);
    process.stderr.write("\nhint: install Node 24, e.g. npm install --global node@24\n");
    process.exit(2);
  }
  const child = spawn(bundled, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], { stdio: "inherit" });
  // the terminal sends Ctrl-C to both of us; the child decides what it means
  process.on("SIGINT", () => {});
  for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  child.on("exit", (code, signal) => process.exit(code ?? (signal === "SIGINT" ? 130 : 1)));
}
