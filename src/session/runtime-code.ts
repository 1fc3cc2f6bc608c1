/**
 * Our own code as sandboxes run it. A checkout holds TypeScript, which node would strip at each start of each sandbox:
 * it is stripped once, and kept in the state folder under the hash of the sources.
 */
import { createHash } from "node:crypto";
import { globSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { dirname, join } from "node:path";

/** A folder with `parts` of `codeFolder` (folders, or modules without extension) in JavaScript. */
export function strippedCode(codeFolder: string, parts: readonly string[], cacheFolder: string): string {
  const names = parts.flatMap((part) =>
    statSync(join(codeFolder, part), { throwIfNoEntry: false })?.isDirectory()
      ? globSync(`${part}/**/*.ts`, { cwd: codeFolder }).sort()
      : [`${part}.ts`],
  );
  const sources = names.map((name) => [name, readFileSync(join(codeFolder, name), "utf8")] as const);
  const hash = createHash("sha256")
    .update(JSON.stringify([process.version, sources]))
    .digest("hex")
    .slice(0, 32);
  const folder = join(cacheFolder, hash);
  if (!statSync(folder, { throwIfNoEntry: false })) makeStripped(folder, sources);
  return folder;
}

function makeStripped(folder: string, sources: readonly (readonly [name: string, source: string])[]): void {
  const draft = `${folder}.${process.pid}`;
  for (const [name, source] of sources) {
    const path = join(draft, name.replace(/\.ts$/, ".js"));
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    writeFileSync(path, toJavaScript(source), { mode: 0o644 });
  }
  try {
    renameSync(draft, folder);
  } catch (error) {
    // another process has just made the same
    if (!statSync(folder, { throwIfNoEntry: false })) throw error;
    rmSync(draft, { recursive: true });
  }
}

function toJavaScript(source: string): string {
  return stripQuietly(source).replace(/(\bfrom |\bimport\()"(\.[^"]+)\.ts"/g, '$1"$2.js"');
}

/** Node warns that this function may change; a user can do nothing with that, and our version of Node is checked. */
function stripQuietly(source: string): string {
  const { emitWarning } = process;
  process.emitWarning = () => {};
  try {
    return stripTypeScriptTypes(source);
  } finally {
    process.emitWarning = emitWarning;
  }
}
