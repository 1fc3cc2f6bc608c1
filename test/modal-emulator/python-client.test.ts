/** Modal's Python client, which shares no code with the JS one: what both can do is not a mistake that two sides share. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { promisify } from "node:util";
import { startEmulator, whyNot } from "./emulator.ts";

const run = promisify(execFile);
const version = "1.6.4";
const packages = join(homedir(), ".cache/modal-sb-test", `modal-${version}`);

/** Installs it once for this user; a string says why it cannot be. */
async function install(): Promise<string | undefined> {
  if (existsSync(packages)) return undefined;
  const draft = `${packages}.${process.pid}`;
  mkdirSync(draft, { recursive: true });
  try {
    await run("python3", ["-m", "pip", "install", "-q", "--target", draft, `modal==${version}`]);
    renameSync(draft, packages);
    return undefined;
  } catch (error) {
    rmSync(draft, { recursive: true, force: true });
    return existsSync(packages) ? undefined : `modal ${version} cannot be installed: ${(error as Error).message}`;
  }
}

const script = `
import json, sys, modal
backend = sys.argv[1]
extra = {"gpu": "T4"} if backend == "v1" else {}
app = modal.App.lookup("python-app", create_if_missing=True)
image = modal.Image.from_id(sys.argv[2])
volume = modal.Volume.from_name("shared", create_if_missing=True, version=2)
secret = modal.Secret.from_name("keys")
said = {}

sandbox = modal.Sandbox.create("cat", app=app, image=image, name="one", tags={"role": "agent"}, timeout=600,
    secrets=[secret, modal.Secret.from_dict({"INLINE": "2"})], volumes={"/data": volume}, **extra)
said["id"] = sandbox.object_id
sandbox.stdin.write("to the main process\\n")
sandbox.stdin.drain()
process = sandbox.exec("sh", "-c", "echo $API_KEY $INLINE; cat; echo err >&2; exit 3")
process.stdin.write(b"to the exec\\n")
process.stdin.write_eof()
process.stdin.drain()
said["exec"] = [process.stdout.read(), process.stderr.read(), process.wait()]
sandbox.exec("sh", "-c", "echo kept > /data/file; sync /data").wait()
said["named"] = modal.Sandbox.from_name("python-app", "one").object_id
try:
    modal.Sandbox.create("true", app=app, image=image, name="one", **extra)
except modal.exception.AlreadyExistsError:
    said["twice"] = "refused"
said["tags"] = sandbox.get_tags()
sandbox.set_tags({"role": "agent", "more": "1"})
said["listed"] = [found.object_id for found in modal.Sandbox.list(app_id=app.app_id, tags={"more": "1"})]
said["poll"] = sandbox.poll()
sandbox.stdin.write_eof()
sandbox.stdin.drain()
sandbox.wait()
said["output"] = sandbox.stdout.read()
said["code"] = sandbox.returncode

other = modal.Sandbox.create("sleep", "1000", app=app, image=image, timeout=600, volumes={"/data": volume}, **extra)
said["file"] = other.exec("cat", "/data/file").stdout.read()
other.reload_volumes()
other.terminate()
other.wait(raise_on_termination=False)
said["terminated"] = other.returncode
print(json.dumps(said))
`;

const reason = await whyNot();

describe("the emulator and Modal's Python client", { skip: reason ?? false }, () => {
  let missing: string | undefined;
  before(async () => {
    missing = await install();
  });

  for (const backend of ["v1", "v2"])
    test(`does what the client expects, ${backend}`, async (context) => {
      if (missing) return context.skip(missing);
      await using emulator = await startEmulator({ secrets: { keys: { API_KEY: "of-the-test" } } });
      const imageId = await emulator.buildImage(["FROM debian:bookworm"]);
      const env = {
        ...emulator.environment,
        PATH: process.env["PATH"],
        HOME: "/nonexistent",
        PYTHONPATH: packages,
        PYTHONDONTWRITEBYTECODE: "1",
        MODAL_SANDBOX_V2: backend === "v2" ? "1" : "0",
      };
      const { stdout } = await run("python3", ["-c", script, backend, imageId], { env, timeout: 300_000 });
      const said = JSON.parse(stdout) as Record<string, unknown>;
      const { id } = said;
      assert.match(String(id), backend === "v1" ? /^sb-[0-9A-Za-z]{22}$/ : /^sb-01[0-9A-Z]{24}$/);
      assert.deepEqual(said, {
        id,
        exec: ["of-the-test 2\nto the exec\n", "err\n", 3],
        named: id,
        twice: "refused",
        tags: { role: "agent" },
        listed: [id],
        poll: null,
        output: "to the main process\n",
        code: 0,
        file: "kept\n",
        terminated: 137,
      });
    });
});
