/** The suite that every provider passes: what provider.ts promises, tried on real sandboxes. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { test as declare, type TestContext } from "node:test";
import { BusyError } from "../../src/errors.ts";
import type { Provider, Sandbox, SandboxSpec } from "../../src/sandbox/provider.ts";
import { Secret } from "../../src/secret.ts";
import { runInside, shellInside } from "../helpers/run-inside.ts";
import { sandboxSpec, testLimits } from "../helpers/sandbox-spec.ts";

export interface SuiteOptions {
  /** why this machine cannot run the suite; undefined when it can */
  whyNot?: () => Promise<string | undefined>;
  /** promises that the provider cannot keep, by the titles of their tests, and why not */
  exceptions?: Readonly<Record<string, string>>;
}

/** Registers the suite; `open` gives a provider with a state of its own. */
export function describeProvider(
  name: string,
  open: () => Promise<Provider>,
  { whyNot = async () => undefined, exceptions = {} }: SuiteOptions = {},
): void {
  const test = (title: string, body: () => Promise<void>) =>
    declare(title, async (context: TestContext) => {
      const reason = exceptions[title.slice(`${name}: `.length)] ?? (await whyNot());
      if (reason !== undefined) context.skip(reason);
      else await body();
    });
  const withSandbox = (
    title: string,
    changes: Partial<SandboxSpec>,
    body: (sandbox: Sandbox, provider: Provider) => Promise<void>,
  ) =>
    test(`${name}: ${title}`, async () => {
      await using provider = await open();
      await using sandbox = await provider.create(sandboxSpec(changes));
      await body(sandbox, provider);
    });

  withSandbox("exec passes input, output, errors and the exit code", {}, async (sandbox) => {
    const outcome = await runInside(sandbox, ["sh", "-c", "cat; echo problem >&2; exit 7"], "hello\0world");
    assert.deepEqual(outcome, { code: 7, stdout: "hello\0world", stderr: "problem\n" });
  });

  withSandbox("exec hands over arguments as they are", {}, async (sandbox) => {
    const argument = 'a "b" $(c) \n\\ é';
    assert.equal((await runInside(sandbox, ["printf", "%s", argument])).stdout, argument);
  });

  withSandbox(
    "exec adds an environment and a working folder to the sandbox's own",
    { env: { OWN: "1" } },
    async (sandbox) => {
      const options = { env: { ADDED: "2" }, workingDirectory: "/usr" };
      const outcome = await runInside(sandbox, ["sh", "-c", 'echo "$OWN $ADDED $PWD"'], "", options);
      assert.equal(outcome.stdout, "1 2 /usr\n");
    },
  );

  withSandbox("exec of a program that is not there ends with code 127", {}, async (sandbox) => {
    const outcome = await runInside(sandbox, ["/no/such/program"]);
    assert.equal(outcome.code, 127);
    assert.match(outcome.stderr, /No such file/);
  });

  withSandbox("kill ends the process that exec started, inside", {}, async (sandbox) => {
    const process = await sandbox.exec(["sh", "-c", "echo started; exec sleep 500"]);
    await once(process.stdout, "data");
    process.kill("SIGKILL");
    await process.exited;
    assert.doesNotMatch((await shellInside(sandbox, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")).stdout, /sleep 500/);
  });

  withSandbox("ten processes beside each other do not mix", {}, async (sandbox) => {
    const outcomes = await Promise.all(
      Array.from({ length: 10 }, (_, index) => runInside(sandbox, ["cat"], `${index}`.repeat(10_000))),
    );
    const expected = Array.from({ length: 10 }, (_, index) => `${index}`.repeat(10_000));
    assert.deepEqual(
      outcomes.map((outcome) => outcome.stdout),
      expected,
    );
  });

  withSandbox(
    "its id is in its environment, its name and tags lead to it",
    { name: "named", tags: { session: "s1" } },
    async (sandbox, provider) => {
      assert.equal((await shellInside(sandbox, 'printf %s "$MODAL_SANDBOX_ID"')).stdout, sandbox.id);
      assert.equal(await provider.find("named"), sandbox);
      assert.deepEqual(
        (await provider.list({ session: "s1" })).map((record) => record.id),
        [sandbox.id],
      );
      assert.deepEqual(await provider.list({ session: "s2" }), []);
    },
  );

  withSandbox("a second sandbox of the same name is refused", { name: "twin" }, async (_sandbox, provider) => {
    await assert.rejects(provider.create(sandboxSpec({ name: "twin" })), BusyError);
  });

  test(`${name}: files are there, read-only`, async () => {
    await using provider = await open();
    const files = [{ hostPath: import.meta.filename, path: "/opt/suite.ts" }];
    await using sandbox = await provider.create(sandboxSpec({ files }));
    assert.match((await shellInside(sandbox, "cat /opt/suite.ts")).stdout, /a sentence that is only here/);
    assert.notEqual((await shellInside(sandbox, "echo x >> /opt/suite.ts")).code, 0);
  });

  test(`${name}: a volume outlives its sandbox, and only one sandbox holds it`, async () => {
    await using provider = await open();
    await using volume = await provider.volume("kept");
    const changes = { volumes: [{ volume, path: "/data" }] };
    {
      await using sandbox = await provider.create(sandboxSpec(changes));
      assert.equal(
        (await shellInside(sandbox, "mkdir /data/folder; echo one > /data/file; echo two > /data/folder/file")).code,
        0,
      );
    }
    await assert.rejects(provider.volume("kept"), BusyError);
    await using sandbox = await provider.create(sandboxSpec(changes));
    assert.equal((await shellInside(sandbox, "cat /data/file /data/folder/file")).stdout, "one\ntwo\n");
  });

  test(`${name}: a volume that is read by another sandbox shows what its writer puts there, and cannot be written to`, async () => {
    await using provider = await open();
    await using volume = await provider.volume("shared");
    await using writer = await provider.create(sandboxSpec({ volumes: [{ volume, path: "/out" }] }));
    // `sync` of a volume is its commit, where one is needed
    await shellInside(writer, "echo one > /out/first; chmod 644 /out/first; sync /out");
    const changes = { role: "syncer", volumes: [{ volume, path: "/in", readOnly: true }] } as const;
    await using reader = await provider.create(sandboxSpec(changes));
    await reader.refreshVolumes();
    assert.equal((await shellInside(reader, "cat /in/first")).stdout, "one\n");
    await shellInside(writer, "echo two > /out/draft; chmod 644 /out/draft; mv /out/draft /out/second; sync /out");
    await reader.refreshVolumes();
    assert.equal((await shellInside(reader, "cat /in/second")).stdout, "two\n");
    await shellInside(reader, "echo x >> /in/first; rm -f /in/first");
    const { stderr } = await shellInside(reader, "echo x > /in/third; mkdir /in/folder");
    assert.equal(stderr.match(/Read-only file system/g)?.length, 2, stderr);
    assert.equal((await shellInside(writer, "cat /out/first; ls /out")).stdout, "one\nfirst\nsecond\n");
  });

  test(`${name}: a secret is readable where it belongs and in no environment or argument`, async () => {
    await using provider = await open();
    const value = `canary-${"x".repeat(20)}`;
    await using sandbox = await provider.create(
      sandboxSpec({ role: "proxy", secrets: { API_KEY: new Secret(value) }, egress: { kind: "host" } }),
    );
    assert.equal((await shellInside(sandbox, "cat /run/secrets/API_KEY")).stdout, value);
    const visible = await shellInside(sandbox, "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline");
    assert.doesNotMatch(visible.stdout, /canary-/);
  });

  test(`${name}: exited tells the main process's own end, with the last of its output`, async () => {
    await using provider = await open();
    // what comes on stdout may be read after all of stderr, and must not take its place
    const command = ["sh", "-c", "echo problem >&2; seq 100000; echo last words; exit 3"];
    await using sandbox = await provider.create(sandboxSpec({ command }));
    const end = await sandbox.exited;
    assert.deepEqual([end.reason, end.code], ["exited", 3]);
    assert.match(end.outputTail, /\n100000\nlast words\nproblem\n$/);
    assert.equal(sandbox.status(), "ended");
    await assert.rejects(sandbox.exec(["true"]), /has ended/);
  });

  test(`${name}: terminate asks first, kills after the grace, and may be called twice`, async () => {
    await using provider = await open();
    const script = (onTerm: string) => `trap '${onTerm}' TERM; touch /tmp/ready; while :; do sleep 0.05; done`;
    const start = async (onTerm: string) => {
      const sandbox = await provider.create(sandboxSpec({ command: ["sh", "-c", script(onTerm)] }));
      await shellInside(sandbox, "until [ -e /tmp/ready ]; do sleep 0.01; done");
      return sandbox;
    };
    const polite = await start("echo bye; exit 0");
    await polite.terminate({ graceMs: 30_000 });
    assert.deepEqual([(await polite.exited).reason, (await polite.exited).outputTail], ["terminated", "bye\n"]);
    const stubborn = await start("");
    await Promise.all([stubborn.terminate({ graceMs: 50 }), stubborn.terminate({ graceMs: 50 })]);
    assert.equal((await stubborn.exited).reason, "terminated");
  });

  test(`${name}: the lifetime ends a sandbox, and says so`, async () => {
    await using provider = await open();
    await using sandbox = await provider.create(sandboxSpec({ limits: { ...testLimits, lifetimeMs: 200 } }));
    const end = await sandbox.exited;
    assert.equal(end.reason, "lifetime");
    assert.match(end.message, /lifetime/);
  });

  withSandbox(
    "processes beyond the limit cannot be made",
    { limits: { ...testLimits, processes: 20 } },
    async (sandbox) => {
      const outcome = await shellInside(
        sandbox,
        "i=0; while [ $i -lt 60 ]; do sleep 600 > /dev/null 2>&1 & i=$((i+1)); done; echo made",
      );
      assert.match(outcome.stderr, /fork/i);
    },
  );

  withSandbox(
    "a file beyond the limit cannot be written",
    { limits: { ...testLimits, fileSizeMiB: 1 } },
    async (sandbox) => {
      const outcome = await shellInside(sandbox, "head -c 3000000 /dev/zero > /tmp/big; stat -c %s /tmp/big");
      assert.equal(outcome.stdout, "1048576\n");
    },
  );

  withSandbox(
    "a process that takes the sandbox over its memory is ended, the sandbox goes on",
    { limits: { ...testLimits, memoryMiB: 200 } },
    async (sandbox) => {
      const hungry =
        "x = bytearray(400 * 1024 * 1024)\nfor i in range(0, len(x), 4096): x[i] = 1\nimport time; time.sleep(600)";
      const outcome = await runInside(sandbox, ["python3", "-c", hungry]);
      assert.equal(outcome.code, 128 + 9);
      assert.equal(sandbox.status(), "running");
    },
  );

  test(`${name}: a main process over the memory limit ends the sandbox, and says so`, async () => {
    await using provider = await open();
    const hungry =
      "x = bytearray(400 * 1024 * 1024)\nfor i in range(0, len(x), 4096): x[i] = 1\nimport time; time.sleep(600)";
    await using sandbox = await provider.create(
      sandboxSpec({ command: ["python3", "-c", hungry], limits: { ...testLimits, memoryMiB: 200 } }),
    );
    const end = await sandbox.exited;
    assert.equal(end.reason, "memory");
    assert.match(end.message, /200 MiB/);
  });

  test(`${name}: an aborted create throws its reason and leaves nothing`, async () => {
    await using provider = await open();
    const abort = new AbortController();
    const creation = provider.create(sandboxSpec({ name: "aborted" }), { signal: abort.signal });
    abort.abort(new Error("changed my mind"));
    await assert.rejects(creation, /changed my mind/);
    assert.deepEqual(await provider.list(), []);
  });

  test(`${name}: a command that cannot run is an error of create or an end with its words`, async () => {
    await using provider = await open();
    await using sandbox = await provider.create(sandboxSpec({ command: ["/no/such/main"] }));
    assert.match((await sandbox.exited).outputTail, /no\/such\/main/);
  });

  test(`${name}: a trusted sandbox serves a port to an agent's`, async () => {
    await using provider = await open();
    await using proxy = await provider.create(serverSpec(provider));
    const address = proxy.address(8080);
    await using sandbox = await provider.create(
      sandboxSpec({ egress: { kind: "allow", hostnames: [], proxy: address } }),
    );
    const outcome = await runInside(sandbox, [
      "curl",
      "-sS",
      "--retry",
      "50",
      "--retry-all-errors",
      "--retry-delay",
      "0",
      `${address.url}/`,
    ]);
    assert.equal(outcome.stdout, "from the proxy");
  });

  test(`${name}: an agent whose proxy is gone is an error of create, and leaves nothing`, async () => {
    await using provider = await open();
    const proxy = await provider.create(serverSpec(provider));
    const address = proxy.address(8080);
    await proxy.terminate();
    const creation = provider.create(sandboxSpec({ egress: { kind: "allow", hostnames: [], proxy: address } }));
    await assert.rejects(creation, { name: "SandboxError" });
    assert.deepEqual(await provider.list(), []);
  });
}

/** A trusted sandbox that serves port 8080. */
function serverSpec(provider: Provider): SandboxSpec {
  const at = provider.listenAt(8080);
  const [hostname, port] = at.split(":");
  const listen = at.startsWith("/")
    ? `listen('${at}', () => require('fs').chmodSync('${at}', 0o666))`
    : `listen(${port}, '${hostname}')`;
  return sandboxSpec({
    role: "proxy",
    command: ["/agent/bin/node", "-e", `require('http').createServer((q, r) => r.end('from the proxy')).${listen}`],
    egress: { kind: "host" },
    ports: [8080],
  });
}
