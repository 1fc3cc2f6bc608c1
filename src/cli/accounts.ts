/** What sessions have spent, and every decision of their proxies: read from the proxy's volume, while it runs or after. */
import { createReadStream, existsSync, readdirSync, statSync, watch } from "node:fs";
import { join } from "node:path";
import type { Config } from "../config/load.ts";
import { exitCodes, UsageError } from "../errors.ts";
import type { Provider } from "../sandbox/provider.ts";
import { sanitizeText } from "../sanitize.ts";
import { type AccountSpending, spendingOf } from "../session/account-spending.ts";
import { providerOf } from "../session/session-file.ts";
import { volumeFolders } from "../session/volume-copy.ts";
import { limitsOf } from "./open.ts";
import type { Output } from "./output.ts";

/** Prints a table, or a JSON object a line. Throws a UsageError when the session is not known. */
export async function showUsage(
  { session, json }: { session: string | undefined; json: boolean },
  provider: Provider,
  config: Config,
  output: Output,
): Promise<number> {
  const ofProvider = (name: string) => providerOf(config.settings.stateFolder, name) === provider.name;
  const all = sessionsByTime(config);
  const names = session === undefined ? all.filter(ofProvider) : [await known(session, provider)];
  if (session === undefined && names.length < all.length) {
    output.note(
      output.dim(
        `Sessions of other providers are not among these: ${provider.name === "local" ? "--on modal" : "--on local"} shows them`,
      ),
    );
  }
  const folders = await auditFolders(names, provider, config);
  const found = names.map((name) => spendingOf(name, folders.get(`${name}-audit`)));
  if (json) for (const spending of found) output.data(`${JSON.stringify(spending)}\n`);
  else output.data(tableOf(found));
  return exitCodes.success;
}

/** Prints the audit log, a line a request; with `follow`, until `stop` fires. */
export async function showAudit(
  { session, json, follow }: { session: string | undefined; json: boolean; follow: boolean },
  provider: Provider,
  config: Config,
  output: Output,
  stop: AbortSignal,
): Promise<number> {
  const name = session ?? sessionsByTime(config).at(-1);
  if (name === undefined) throw new UsageError("There is no session yet", { hint: "modal-sb starts one" });
  const folder = (await auditFolders([await known(name, provider)], provider, config)).get(`${name}-audit`);
  if (folder === undefined) throw new UsageError(`The session "${name}" has made no request yet`);
  const print = (line: string) => output.data(`${json ? line : wordsOf(line)}\n`);
  const path = join(folder, "audit.ndjson");
  if (existsSync(`${path}.1`)) await printFrom(`${path}.1`, 0, print);
  let position = existsSync(path) ? await printFrom(path, 0, print) : 0;
  if (!follow) return exitCodes.success;
  if ((await provider.peek(`${name}-audit`))?.hostPath === undefined) {
    throw new UsageError("Only a proxy on this machine can be followed", {
      hint: "without --follow, its log is brought here",
    });
  }
  const interrupted = new AbortController();
  process.once("SIGINT", () => interrupted.abort());
  const signal = AbortSignal.any([stop, interrupted.signal]);
  let wake = Promise.withResolvers<void>();
  const watcher = watch(folder, () => wake.resolve());
  signal.addEventListener("abort", () => wake.resolve(), { once: true });
  while (!signal.aborted) {
    // what changes from here on is seen in the next round
    wake = Promise.withResolvers();
    const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
    // a file that became shorter is a new one
    if (size === position) await wake.promise;
    else position = await printFrom(path, size < position ? 0 : position, print);
  }
  watcher.close();
  stop.throwIfAborted();
  return exitCodes.success;
}

/** Prints whole lines from `start` on; where the next one will begin. */
async function printFrom(path: string, start: number, print: (line: string) => void): Promise<number> {
  const { size } = statSync(path);
  if (size <= start) return start;
  let position = start;
  const stream = createReadStream(path, { start, end: size - 1 });
  let rest = Buffer.alloc(0);
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    rest = Buffer.concat([rest, chunk]);
    for (let end = rest.indexOf(10); end !== -1; end = rest.indexOf(10)) {
      print(rest.subarray(0, end).toString("utf8"));
      position += end + 1;
      rest = rest.subarray(end + 1);
    }
  }
  return position;
}

function auditFolders(
  names: readonly string[],
  provider: Provider,
  { settings }: Config,
): Promise<Map<string, string>> {
  const { stateFolder } = settings;
  const volumes = names.map((name) => `${name}-audit`);
  return volumeFolders(volumes, { provider, stateFolder, limits: limitsOf(settings) });
}

async function known(session: string, provider: Provider): Promise<string> {
  if ((await provider.peek(`${session}-audit`)) !== undefined) return session;
  throw new UsageError(`There is no session "${session}"`, { hint: "modal-sb usage lists them" });
}

/** The oldest first. */
export function sessionsByTime({ settings }: Config): string[] {
  const folder = join(settings.stateFolder, "sessions");
  if (!existsSync(folder)) return [];
  return (
    readdirSync(folder)
      // a session's name has no dot: files beside its own have one more
      .filter((name) => /^[^.]+\.json$/.test(name))
      .map((name) => ({ name: name.slice(0, -".json".length), at: statSync(join(folder, name)).mtimeMs }))
      .sort((one, other) => one.at - other.at)
      .map(({ name }) => name)
  );
}

function tableOf(rows: readonly AccountSpending[]): string {
  if (rows.length === 0) return "There is no session yet.\n";
  const head = ["session", "requests", "refused", "input", "output", "of cache", "spent"];
  const cells = rows.map((row) => [
    row.session,
    ...[row.requests, row.refused, row.inputTokens, row.outputTokens, row.cacheReadTokens].map(String),
    `$${row.usd.toFixed(4)}`,
  ]);
  const widths = head.map((word, column) => Math.max(word.length, ...cells.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join("  ");
  return `${[head, ...cells].map(line).join("\n")}\n`;
}

/** One line for people. Paths and models are words of the sandbox: they are made safe for a terminal. */
function wordsOf(line: string): string {
  let entry: Record<string, unknown>;
  try {
    entry = JSON.parse(line) as Record<string, unknown>;
  } catch {
    return "(a damaged line)";
  }
  const { time, method, path, status, reason, model, inputTokens, outputTokens, cost, ms, upstream } = entry;
  const tokens = Number(inputTokens) + Number(outputTokens) > 0 ? `  ${inputTokens}→${outputTokens} tokens` : "";
  const price = Number(cost) > 0 ? `  $${Number(cost).toFixed(4)}` : "";
  const words = `${String(time).slice(0, 19)}  ${status}  ${upstream ?? "-"}  ${method} ${path}${model ? `  ${model}` : ""}${tokens}${price}  ${ms} ms${reason ? `  ${reason}` : ""}`;
  return sanitizeText(words);
}
