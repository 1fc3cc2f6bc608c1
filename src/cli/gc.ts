/**
 * Ends sandboxes that nobody wants any more. Only what is proven to be such goes: of this installation (the provider
 * says so), of a session whose lock is free (this process then holds it), not left on purpose. All is listed first; a
 * provider that does not answer means that nothing is removed.
 */
import { resolve } from "node:path";
import type { Config } from "../config/load.ts";
import { exitCodes, messageOf, UsageError } from "../errors.ts";
import type { Provider, SandboxRecord, Volume } from "../sandbox/provider.ts";
import { sanitizeText } from "../sanitize.ts";
import { forgetSandboxes } from "../session/inheritance.ts";
import { askAtTerminal } from "./ask.ts";
import { table } from "./metrics-words.ts";
import type { Output } from "./output.ts";
import { holderOf, listSandboxes, type Standing, sessionsOf, spentOn, standingOf } from "./running.ts";
import { dollars, spanWords } from "./spans.ts";

export interface CollectRequest {
  /** without a question */
  yes: boolean;
  /** no more than so many go at once: a wrong judgement shall not cost everything */
  max: number;
}

interface Finding {
  record: SandboxRecord;
  standing: Standing;
}

/** Lists, asks, removes. Throws a SandboxError, with nothing removed, when the provider does not answer. */
export async function collectOrphans(
  { yes, max }: CollectRequest,
  provider: Provider,
  config: Config,
  output: Output,
  ask: (question: string) => Promise<boolean> = askAtTerminal,
): Promise<number> {
  const stateFolder = resolve(config.settings.stateFolder);
  await using locks = new AsyncDisposableStack();
  // kept until the end: a session that wants its name back meanwhile has to wait, and loses no sandbox of its own
  const findings = await findingsOf(provider, stateFolder, (lock) => locks.use(lock));
  const orphans = findings.filter(({ standing }) => standing.state === "orphaned");
  const now = Date.now();
  if (findings.length > 0) output.data(`${tableOf(findings, now)}\n`);
  if (orphans.length === 0) {
    output.note(`Nothing to remove: ${findings.length === 0 ? "no sandbox is running" : "no sandbox is an orphan"}.`);
    if (!provider.capabilities.detach) output.note(sweptWords);
    return exitCodes.success;
  }
  if (orphans.length > max) {
    throw new UsageError(`${orphans.length} sandboxes look like orphans, and no more than ${max} go at once`, {
      hint: `when you agree with the list: modal-sb gc --max ${orphans.length}`,
    });
  }
  const perHour = orphans.reduce((sum, { record }) => sum + (record.usdPerHour ?? 0), 0);
  const price = perHour > 0 ? `, ${dollars(perHour)} an hour` : "";
  const question = `Remove ${orphans.length === 1 ? "1 orphan" : `${orphans.length} orphans`}${price}?`;
  const names = sessionsOf(orphans.map(({ record }) => record)).map(({ name }) => name);
  if (!yes) {
    output.note(output.dim(`A session can be taken over instead, with what runs in it: modal-sb attach ${names[0]}`));
    if (!output.isTerminal)
      throw new UsageError("Nothing was removed", { hint: "modal-sb gc --yes removes the orphans" });
    if (!(await ask(question))) {
      output.note("Nothing was removed.");
      return exitCodes.success;
    }
  }
  const exitCode = await remove(orphans, provider, output);
  const kept = new Set(findings.filter((one) => !orphans.includes(one)).map(({ record }) => record.tags["session"]));
  for (const name of names) {
    if (exitCode === exitCodes.success && !kept.has(name)) forgetSandboxes(stateFolder, name);
  }
  return exitCode;
}

const sweptWords =
  "What processes that died have left on this machine is removed whenever modal-sb starts, so also now.";

/** Every sandbox of every session, and how it stands; `keep` gets the lock of each session that nobody has. */
async function findingsOf(provider: Provider, stateFolder: string, keep: (lock: Volume) => void): Promise<Finding[]> {
  const records = await listSandboxes(provider);
  const sessions = sessionsOf(records);
  const findings: Finding[] = [];
  for (const session of sessions) {
    const holder = await holderOf(session, provider, stateFolder, keep);
    const now = Date.now();
    for (const record of session.sandboxes) findings.push({ record, standing: standingOf(record, holder, now) });
  }
  const found = new Set(findings.map(({ record }) => record.id));
  for (const record of records.filter(({ id }) => !found.has(id))) {
    const { ownerPid } = record;
    const standing: Standing =
      ownerPid === undefined
        ? { state: "unknown", why: "it is not known which session made it" }
        : { state: "held", pid: ownerPid };
    findings.push({ record, standing });
  }
  return findings;
}

/** Asked once more which of them run: the question may have stood for hours. */
async function remove(orphans: readonly Finding[], provider: Provider, output: Output): Promise<number> {
  const running = new Set((await listSandboxes(provider)).map(({ id }) => id));
  let exitCode: number = exitCodes.success;
  for (const { record } of orphans.filter(({ record: { id } }) => running.has(id))) {
    const words = sanitizeText(`${record.role} ${record.id} of ${record.tags["session"]}`);
    try {
      await (await provider.open(record))?.terminate();
      output.note(`removed ${words}`);
    } catch (error) {
      output.note(`error: ${words} was not removed: ${messageOf(error)}`);
      exitCode = exitCodes.sandbox;
    }
  }
  return exitCode;
}

function tableOf(findings: readonly Finding[], now: number): string {
  const rows = findings.map(({ record, standing }) => {
    const { tags, role, startedAt, gpu = "-", id } = record;
    const spent = spentOn(record, now);
    const verdict = standing.state === "orphaned" ? "REMOVE" : "keep";
    return [
      ...[verdict, tags["session"] ?? "-", role, spanWords(now - Date.parse(startedAt)), gpu],
      ...[spent === undefined ? "-" : dollars(spent), id, whyWords(standing)],
    ].map(sanitizeText);
  });
  return table([["", "session", "role", "age", "gpu", "spent", "id", "why"], ...rows], new Set([3, 5])).join("\n");
}

function whyWords(standing: Standing): string {
  if (standing.state === "held") return `in use by ${standing.pid === 0 ? "a process" : `process ${standing.pid}`}`;
  return standing.state === "detached" ? `left running on purpose until ${standing.until}` : standing.why;
}
