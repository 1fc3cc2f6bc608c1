/** The command router: processes in sandboxes, V2's main process, volumes. */
import { setTimeout as delay } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import type { RunningExec, StdinByOffset } from "./exec.ts";
import { type Faults, take } from "./faults.ts";
import type { OutputLog } from "./output-log.ts";
import { isReady } from "./readiness.ts";
import { type Context, type Handlers, RpcError } from "./rpc.ts";
import type { EmulatedSandbox } from "./sandbox.ts";
import type { SandboxRegistry } from "./sandbox-registry.ts";
import type { SecretSource, Workspace } from "./workspace.ts";

interface ExecId {
  taskId: string;
  execId: string;
}

interface ExecStart extends ExecId {
  commandArgs: string[];
  stdoutConfig: number;
  stderrConfig: number;
  timeoutSecs?: number;
  workdir?: string;
  secretIds: string[];
  env: Record<string, string>;
  secretSources: SecretSource[];
}

type StdinWrite = { offset: number; data: Buffer; eof: boolean };
type StdinStream = { start?: ExecId & { offset: number }; data?: Buffer; end?: object };

export class Router {
  readonly #sandboxes: SandboxRegistry;
  readonly #workspace: Workspace;
  readonly #faults: Faults;

  constructor(sandboxes: SandboxRegistry, workspace: Workspace, faults: Faults) {
    this.#sandboxes = sandboxes;
    this.#workspace = workspace;
    this.#faults = faults;
  }

  handlers(): Handlers {
    return {
      TaskExecStart: (request: ExecStart, context: Context) => this.#start(request, context),
      TaskExecStdioRead: (request: ExecId & { offset: number; fileDescriptor: number }, context: Context) => {
        const log = this.#exec(request, context).output[request.fileDescriptor];
        return this.#read(log as OutputLog, request.offset, context, (data) => ({ data }));
      },
      TaskExecStdinWrite: (request: ExecId & StdinWrite, context: Context) => {
        write(this.#exec(request, context).stdin, request);
        return {};
      },
      TaskExecStdinWriteStream: (requests: AsyncIterable<StdinStream>, context: Context) =>
        this.#stream(requests, context),
      TaskExecStdinStatus: (request: ExecId, context: Context) => {
        const { written, closed } = this.#exec(request, context).stdin;
        return { numBytesWritten: written, closed };
      },
      TaskExecWait: async (request: ExecId, context: Context) => {
        const gone = new Promise<never>((_, reject) =>
          context.signal.addEventListener("abort", () => reject(new RpcError(status.CANCELLED, "the client has gone"))),
        );
        return Promise.race([this.#exec(request, context).exited, gone]);
      },
      TaskExecPoll: (request: ExecId, context: Context) => this.#exec(request, context).status ?? {},
      TaskReloadVolumes: (request: { taskId: string }, context: Context) => this.#reload(request, context),
      SandboxStdinWriteV2: (request: { taskId: string } & StdinWrite, context: Context) => {
        const sandbox = this.#running(request.taskId, context);
        sandbox.touch();
        write(sandbox.stdin as StdinByOffset, request);
        return {};
      },
      SandboxStdioReadV2: (request: { taskId: string; offset: number; fileDescriptor: number }, context: Context) => {
        const log = this.#task(request.taskId, context).output[request.fileDescriptor] as OutputLog;
        const oldest = log.size - this.#faults.stdioRetainedBytes;
        const offset = Math.max(request.offset, oldest);
        return this.#read(log, offset, context, (data, startingOffset) => ({ data, startingOffset }));
      },
      SandboxWaitUntilReady: (request: { taskId: string; timeout: number }, context: Context) =>
        this.#ready(request, context),
    };
  }

  #task(taskId: string, context: Context): EmulatedSandbox {
    const [bearer] = context.metadata.get("authorization");
    if (!String(bearer).startsWith("Bearer ") || take(this.#faults, "routerTokenExpires"))
      throw new RpcError(status.UNAUTHENTICATED, "the token has expired");
    const sandbox = this.#sandboxes.byTask(taskId);
    context.call.sandboxId = sandbox.id;
    return sandbox;
  }

  #running(taskId: string, context: Context): EmulatedSandbox {
    const sandbox = this.#task(taskId, context);
    if (sandbox.state !== "running") throw new RpcError(status.NOT_FOUND, `Task ${taskId} has finished`);
    return sandbox;
  }

  #exec({ taskId, execId }: ExecId, context: Context): RunningExec {
    const exec = this.#task(taskId, context).execs.get(execId);
    if (!exec) throw new RpcError(status.NOT_FOUND, `Exec ${execId} not found`);
    return exec;
  }

  #start(request: ExecStart, context: Context): object {
    const sandbox = this.#running(request.taskId, context);
    const length = request.commandArgs.reduce((sum, argument) => sum + argument.length, 0);
    if (length > 65_536) throw new RpcError(status.INVALID_ARGUMENT, "Total length of CMD arguments is too long");
    const env = {
      ...this.#workspace.valuesOf(request.secretIds),
      ...request.env,
      ...this.#workspace.valuesOfSources(request.secretSources),
    };
    const exec = sandbox.exec(request.execId, request.commandArgs, {
      env,
      workdir: request.workdir ?? "",
      stdout: request.stdoutConfig === 1,
      stderr: request.stderrConfig === 1,
      ...(request.timeoutSecs && { timeoutSecs: request.timeoutSecs }),
    });
    if (!exec) throw new RpcError(status.NOT_FOUND, `Task ${request.taskId} has finished`);
    return {};
  }

  async *#read(
    log: OutputLog,
    offset: number,
    { signal }: Context,
    message: (data: Buffer, offset: number) => object,
  ): AsyncGenerator<object> {
    for await (const piece of log.read(offset, signal)) {
      for (let from = 0; from < piece.data.length; from += chunkBytes) {
        yield message(piece.data.subarray(from, from + chunkBytes), piece.offset + from);
        if (take(this.#faults, "resetStreams")) throw new RpcError(status.UNAVAILABLE, "the connection was reset");
      }
    }
  }

  async #stream(requests: AsyncIterable<StdinStream>, context: Context): Promise<object> {
    let stdin: StdinByOffset | undefined;
    let offset = 0;
    for await (const request of requests) {
      if (request.start) {
        stdin = this.#exec(request.start, context).stdin;
        offset = request.start.offset;
      }
      if (!stdin) throw new RpcError(status.INVALID_ARGUMENT, "the first message names the exec");
      const data = request.data ?? Buffer.alloc(0);
      write(stdin, { offset, data, eof: Boolean(request.end) });
      offset += data.length;
    }
    return {};
  }

  async #reload({ taskId }: { taskId: string }, context: Context): Promise<object> {
    const sandbox = this.#running(taskId, context);
    if ((await sandbox.reloadVolumes()) === "busy")
      throw new RpcError(status.FAILED_PRECONDITION, "volume busy: there are open files preventing the operation");
    return {};
  }

  async #ready({ taskId, timeout }: { taskId: string; timeout: number }, context: Context): Promise<object> {
    const sandbox = this.#running(taskId, context);
    const { probe } = sandbox.options;
    if (!probe) throw new RpcError(status.FAILED_PRECONDITION, "the Sandbox has no readiness probe");
    const untilMs = Date.now() + timeout * 1000;
    while (!context.signal.aborted && Date.now() < untilMs) {
      if (sandbox.state !== "running") throw new RpcError(status.FAILED_PRECONDITION, "the Sandbox has finished");
      if (sandbox.readyAt === undefined && (await isReady(sandbox, probe))) sandbox.readyAt = Date.now();
      if (sandbox.readyAt !== undefined) return { readyAt: sandbox.readyAt / 1000 };
      await delay(probe.intervalMs ?? 100);
    }
    throw new RpcError(status.DEADLINE_EXCEEDED, "the Sandbox is not ready");
  }
}

const chunkBytes = 64 * 1024;

function write(stdin: StdinByOffset, { offset, data, eof }: StdinWrite): void {
  if (!stdin.write(offset, data, eof))
    throw new RpcError(status.FAILED_PRECONDITION, `stdin is closed, or does not reach to ${offset} yet`);
}
