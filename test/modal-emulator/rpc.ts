/** Modal's two gRPC services on one plaintext port, with a record of every call. */
import type { EventEmitter } from "node:events";
import { join } from "node:path";
import {
  type GrpcObject,
  loadPackageDefinition,
  type Metadata,
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceClientConstructor,
  type StatusObject,
  type sendUnaryData,
  status,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

/** An answer other than OK. */
export class RpcError extends Error {
  readonly code: status;
  readonly metadata: Metadata | undefined;

  constructor(code: status, message: string, metadata?: Metadata) {
    super(message);
    this.code = code;
    this.metadata = metadata;
  }
}

/** One call as a test sees it. */
export interface Call {
  /** without the service: "SandboxCreateV2" */
  method: string;
  /** when it came, milliseconds since the epoch */
  atMs: number;
  /** undefined while it runs */
  durationMs?: number;
  idempotencyKey?: string;
  /** the name of the gRPC status, undefined while it runs */
  status?: string;
  sandboxId?: string;
}

export interface Context {
  call: Call;
  /** of the client's call */
  metadata: Metadata;
  /** aborted when the client has gone or its deadline is over */
  signal: AbortSignal;
}

type Message = object;
type Unary = (request: never, context: Context) => Promise<Message> | Message;
type Streaming = (request: never, context: Context) => AsyncIterable<Message>;
type Reading = (requests: AsyncIterable<never>, context: Context) => Promise<Message>;

/** Handlers of one service by method, camelCase fields, kinds as in the proto file. */
export type Handlers = Record<string, Unary | Streaming | Reading>;

interface Services {
  client: Handlers;
  router: Handlers;
}

export interface Hooks {
  started(call: Call): void;
  ended(call: Call): void;
  unexpected(method: string): void;
  /** runs before the handler; what it throws is the answer */
  gate(call: Call): Promise<void>;
}

const protoFolder = join(import.meta.dirname, "proto");
const messageLimit = 100 * 1024 * 1024;

/** The definitions of both services, as the drift test reads them too. */
export function loadProtos(): GrpcObject {
  const files = ["modal-client.proto", "task-command-router.proto"];
  return loadPackageDefinition(
    loadSync(files, {
      includeDirs: [protoFolder],
      longs: Number,
      defaults: true,
      arrays: true,
      objects: true,
      oneofs: true,
    }),
  );
}

export async function serve(services: Services, hooks: Hooks): Promise<{ port: number; close(): void }> {
  const server = new Server({
    "grpc.max_receive_message_length": messageLimit,
    "grpc.max_send_message_length": messageLimit,
  });
  const protos = loadProtos() as { modal: Record<string, Record<string, ServiceClientConstructor>> };
  add(server, protos.modal["client"]?.["ModalClient"], services.client, hooks);
  add(server, protos.modal["task_command_router"]?.["TaskCommandRouter"], services.router, hooks);
  reportUnknownPaths(server, hooks);
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  return { port, close: () => server.forceShutdown() };
}

function add(server: Server, client: ServiceClientConstructor | undefined, handlers: Handlers, hooks: Hooks): void {
  if (!client) throw new Error("the proto files do not have the service");
  const { service } = client;
  const known = new Set(Object.values(service).map((method) => nameOf(method.path)));
  const stray = Object.keys(handlers).filter((name) => !known.has(name));
  if (stray.length > 0) throw new Error(`handlers of methods that are not in the proto files: ${stray.join(", ")}`);
  const implementation: Record<string, never> = {};
  for (const method of Object.values(service)) {
    const handler = handlers[nameOf(method.path)];
    if (!handler) throw new Error(`no handler for ${method.path}`);
    implementation[method.originalName ?? nameOf(method.path)] = adapt(method, handler, hooks) as never;
  }
  server.addService(service, implementation);
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** grpc-js answers unknown paths by itself and tells nobody; its table of handlers is the only place to hear of them. */
function reportUnknownPaths(server: Server, hooks: Hooks): void {
  const handlers: Map<string, unknown> = Reflect.get(server, "handlers");
  const get = handlers.get.bind(handlers);
  handlers.get = (path) => {
    const handler = get(path);
    if (!handler) hooks.unexpected(nameOf(path));
    return handler;
  };
}

type AnyCall =
  | ServerUnaryCall<Message, Message>
  | ServerWritableStream<Message, Message>
  | ServerReadableStream<Message, Message>;

function adapt(method: MethodDefinition<Message, Message>, handler: Handlers[string], hooks: Hooks): unknown {
  const name = nameOf(method.path);
  if (method.responseStream) {
    return async (call: ServerWritableStream<Message, Message>) => {
      const context = contextOf(name, call);
      const outcome = await tracked(context, hooks, call.request, async () => {
        for await (const message of (handler as Streaming)(call.request as never, context)) {
          if (context.signal.aborted) return;
          if (!call.write(message)) await drained(call, context.signal);
        }
      });
      if (outcome.error) call.emit("error", outcome.error);
      else call.end();
    };
  }
  const unary = async (call: AnyCall, callback: sendUnaryData<Message>) => {
    const context = contextOf(name, call);
    const request = method.requestStream ? call : (call as ServerUnaryCall<Message, Message>).request;
    const outcome = await tracked(context, hooks, request, async () => (handler as Unary)(request as never, context));
    if (outcome.error) callback(outcome.error);
    else callback(null, outcome.value as Message);
  };
  return unary;
}

function drained(call: ServerWritableStream<Message, Message>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    call.once("drain", resolve);
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

function contextOf(method: string, call: AnyCall): Context {
  const abort = new AbortController();
  (call as EventEmitter).on("cancelled", () => abort.abort());
  const idempotencyKey = call.metadata.get("x-idempotency-key")[0];
  return {
    call: { method, atMs: Date.now(), ...(typeof idempotencyKey === "string" && { idempotencyKey }) },
    metadata: call.metadata,
    signal: abort.signal,
  };
}

async function tracked<Value>(
  context: Context,
  hooks: Hooks,
  request: object,
  work: () => Promise<Value>,
): Promise<{ value?: Value; error?: Partial<StatusObject> }> {
  const { call } = context;
  const named = (request as { sandboxId?: unknown }).sandboxId;
  if (typeof named === "string" && named) call.sandboxId = named;
  hooks.started(call);
  let outcome: { value?: Value; error?: Partial<StatusObject> };
  try {
    await hooks.gate(call);
    outcome = { value: await work() };
  } catch (error) {
    outcome = { error: statusOf(error) };
  }
  call.durationMs = Date.now() - call.atMs;
  call.status = context.signal.aborted ? "CANCELLED" : (status[outcome.error?.code ?? status.OK] ?? "UNKNOWN");
  hooks.ended(call);
  return outcome;
}

/** Not INTERNAL for errors of the emulator itself: clients would try again, and hide them. */
function statusOf(error: unknown): Partial<StatusObject> {
  if (error instanceof RpcError)
    return { code: error.code, details: error.message, ...(error.metadata && { metadata: error.metadata }) };
  return { code: status.DATA_LOSS, details: `emulator: ${(error as Error).stack ?? String(error)}` };
}
