/** V1's stdin and output of main processes, and the logs that Modal keeps of both backends. */
import { status } from "@grpc/grpc-js";
import type { LogEntry } from "./entrypoint-log.ts";
import { type Faults, take } from "./faults.ts";
import { type Context, type Handlers, RpcError } from "./rpc.ts";
import type { EmulatedSandbox } from "./sandbox.ts";
import type { SandboxRegistry } from "./sandbox-registry.ts";

interface Time {
  seconds: number;
  nanos: number;
}

interface LogFilter {
  sandboxId: string;
  taskId: string;
  source: number;
  searchText: string;
  since: Time | null;
  until: Time | null;
}

export function stdioCalls(sandboxes: SandboxRegistry, faults: Faults): Handlers {
  /** the JS client asks by the task */
  const subjectOf = ({ sandboxId, taskId }: LogFilter) =>
    sandboxId ? sandboxes.get(sandboxId) : sandboxes.byTask(taskId);
  return {
    SandboxStdinWrite: (request: { sandboxId: string; input: Buffer; index: number; eof: boolean }) => {
      const sandbox = sandboxes.get(request.sandboxId);
      if (sandbox.state !== "running" || !sandbox.stdin)
        throw new RpcError(status.FAILED_PRECONDITION, "the Sandbox does not run");
      sandbox.touch();
      if (request.index <= sandbox.stdinIndex) return {};
      sandbox.stdinIndex = request.index;
      sandbox.stdin.write(sandbox.stdin.written, request.input, request.eof);
      return {};
    },
    SandboxGetLogs: (request: LogRequest, context: Context) =>
      liveLogs(sandboxes.get(request.sandboxId), request, context, faults),
    AppFetchLogs: (filter: LogFilter & { limit: number }) => {
      const entries = matching(subjectOf(filter), filter).slice(-(filter.limit || 1000));
      const { taskId, sandboxId } = filter;
      return { batches: entries.map((entry) => ({ taskId, sandboxId, entryId: idOf(entry), items: [itemOf(entry)] })) };
    },
    AppCountLogs: (filter: LogFilter & { appId: string; bucketSecs: number }) => {
      const width = filter.bucketSecs || 60;
      const buckets = new Map<number, { stdoutLogs: number; stderrLogs: number }>();
      for (const entry of matching(subjectOf(filter), filter)) {
        const start = Math.floor(entry.atMs / 1000 / width) * width;
        const bucket = buckets.get(start) ?? { stdoutLogs: 0, stderrLogs: 0 };
        bucket[entry.descriptor === 1 ? "stdoutLogs" : "stderrLogs"]++;
        buckets.set(start, bucket);
      }
      const counted = [...buckets].map(([seconds, counts]) => ({ bucketStartAt: { seconds, nanos: 0 }, ...counts }));
      return { appId: filter.appId, buckets: counted };
    },
  };
}

type LogRequest = { sandboxId: string; fileDescriptor: number; timeout: number; lastEntryId: string };

async function* liveLogs(
  sandbox: EmulatedSandbox,
  request: LogRequest,
  context: Context,
  faults: Faults,
): AsyncGenerator<object> {
  const signal = AbortSignal.any([context.signal, AbortSignal.timeout((request.timeout || 55) * 1000)]);
  const { taskId, id: sandboxId } = sandbox;
  const last = Number(request.lastEntryId.split("-")[0]) || 0;
  const nothing = { data: "", fileDescriptor: request.fileDescriptor || 1 };
  if (faults.emptyLogItems && last === 0) yield { taskId, sandboxId, entryId: "0-0", items: [nothing] };
  for await (const entry of sandbox.log.after(last, request.fileDescriptor, signal)) {
    if (!entry) {
      yield { taskId, sandboxId, entryId: `${sandbox.log.entries.length}-0`, items: [], eof: true };
      return;
    }
    const items = faults.emptyLogItems ? [nothing, itemOf(entry), nothing] : [itemOf(entry)];
    yield { taskId, sandboxId, entryId: idOf(entry), items };
    if (take(faults, "resetStreams")) throw new RpcError(status.UNAVAILABLE, "the connection was reset");
  }
}

function matching(sandbox: EmulatedSandbox, { source, searchText, since, until }: LogFilter): LogEntry[] {
  return sandbox.log.entries.filter(
    (entry) =>
      (!source || entry.descriptor === source) &&
      entry.data.includes(searchText) &&
      (!since || entry.atMs >= msOf(since)) &&
      (!until || entry.atMs <= msOf(until)),
  );
}

function msOf({ seconds, nanos }: Time): number {
  return seconds * 1000 + nanos / 1e6;
}

function idOf(entry: LogEntry): string {
  return `${entry.number}-0`;
}

function itemOf(entry: LogEntry): object {
  const { data, descriptor: fileDescriptor, atMs } = entry;
  return { data, fileDescriptor, timestamp: atMs / 1000, timestampNs: String(BigInt(Math.round(atMs)) * 1_000_000n) };
}
