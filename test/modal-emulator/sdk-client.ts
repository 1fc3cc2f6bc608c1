/** The official SDK as a client of an emulator. It reads its address when a client is made. */
import type { App, Image, ModalClient, Sandbox, SandboxCreateParams } from "modal";
import type { Emulator } from "./emulator.ts";

export interface Connection {
  client: ModalClient;
  app: App;
  /** debian, without a layer */
  image: Image;
  create(params?: SandboxCreateParams): Promise<Sandbox>;
}

export async function connect(emulator: Emulator): Promise<Connection> {
  Object.assign(process.env, emulator.environment);
  const modal = await import("modal");
  const client = new modal.ModalClient();
  const app = await client.apps.fromName("test-app", { createIfMissing: true });
  const image = client.images.fromRegistry("debian:bookworm");
  return { client, app, image, create: (params = {}) => client.sandboxes.create(app, image, params) };
}

/** What a command says, its exit code, and its errors. */
export async function output(
  sandbox: Sandbox,
  ...command: string[]
): Promise<{ code: number; stdout: string; stderr: string }> {
  const process = await sandbox.exec(command);
  await process.stdin.close();
  const [stdout, stderr] = await Promise.all([process.stdout.readText(), process.stderr.readText()]);
  return { code: await process.wait(), stdout, stderr };
}

/** What a command prints, when it ends well. */
export async function printed(sandbox: Sandbox, ...command: string[]): Promise<string> {
  const { code, stdout, stderr } = await output(sandbox, ...command);
  if (code !== 0) throw new Error(`${command.join(" ")} ended with ${code}: ${stderr}`);
  return stdout;
}
