/** The sandbox's side of a transfer: a program whose stdin and stdout lead to the host, for one transfer. */
import { FrameReader, FrameWriter } from "./frames.ts";
import type { Message, MessageOf } from "./messages.ts";
import { Receiver } from "./receiver.ts";
import { openSource, Sender } from "./sender.ts";
import { systemCode, TransferFault } from "./transfer-fault.ts";
import { countFiles } from "./walk.ts";

const aliveMs = 5000;
/** turns of `aliveMs` in which the host says nothing, until it is taken for dead */
const maxSilentTurns = 24;

const out = new FrameWriter(process.stdout);
const frames = new FrameReader();
let silentTurns = 0;

const pulse = setInterval(() => {
  silentTurns += 1;
  if (silentTurns > maxSilentTurns) process.exit(1);
  out.post({ t: "alive" });
}, aliveMs);

async function* incoming() {
  for await (const chunk of process.stdin) {
    silentTurns = 0;
    for (const frame of frames.push(chunk)) {
      if (!("message" in frame && frame.message.t === "alive")) yield frame;
    }
  }
}

type Incoming = ReturnType<typeof incoming>;

async function run(): Promise<void> {
  const host = incoming();
  const { value: first } = await host.next();
  if (!first || !("message" in first)) throw new TransferFault("protocol", "no request");
  if (first.message.t === "pull") await send(first.message, host);
  else if (first.message.t === "push") await receive(first.message, host);
  else throw new TransferFault("protocol", "no request");
}

async function send({ from }: MessageOf<"pull">, host: Incoming): Promise<void> {
  using source = openSource(from);
  const sender = new Sender(source, out);
  // the host's end is ours
  const listening = listen(sender, host).then(() => process.exit(1));
  if (source.kind === "folder") {
    void countFiles(source.tree, source.top).then((total) => out.post({ t: "total", ...total }));
  }
  await Promise.race([sender.run(), listening]);
}

async function listen(sender: Sender, host: Incoming): Promise<void> {
  for await (const frame of host) if ("message" in frame) sender.receive(frame.message);
}

async function receive(request: MessageOf<"push">, host: Incoming): Promise<void> {
  const { to, name, contents, source, overwrite } = request;
  const limits = { maxEntries: Number.POSITIVE_INFINITY, maxBytes: Number.POSITIVE_INFINITY };
  const receiver = new Receiver(
    { to, name, contents, source, overwrite, tellOutcomes: true, durable: false, modeMask: 0o777, ...limits },
    out,
  );
  try {
    for await (const frame of host) if (await receiver.receive(frame)) return;
  } finally {
    await receiver.leave();
  }
}

function faultOf(error: unknown): Message {
  if (error instanceof TransferFault) return { t: "fault", code: error.code, detail: error.detail };
  return { t: "fault", code: "source", detail: systemCode(error) };
}

try {
  await run();
} catch (error) {
  out.post(faultOf(error));
}
clearInterval(pulse);
await out.drained().catch(() => {});
process.exit();
