/** What a hostile agent can see and reach: searched and tried from inside a real session. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { homedir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { credentialForms } from "../../src/credential-forms.ts";
import { createProvider } from "../../src/sandbox/sandbox.ts";
import { Secret } from "../../src/secret.ts";
import { runInside, shellInside } from "../helpers/run-inside.ts";
import { type RunningSession, runningSession, testKey } from "../helpers/running-session.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";

/** Runs in the sandbox; looks for the words on its standard input everywhere, and prints where they are and how much it saw. */
const search = `
import json, os, sys
needles = [bytes.fromhex(line) for line in sys.stdin.read().split()]
seen = {"environments": 0, "arguments": 0, "files": 0, "memory": 0, "found": []}
def look(place, data):
    for number, needle in enumerate(needles):
        if needle in data:
            seen["found"].append([place, number])
def read(path, limit=64 * 1024 * 1024):
    try:
        with open(path, "rb") as file:
            return file.read(limit)
    except OSError:
        return b""
me = str(os.getpid())
for pid in filter(str.isdigit, os.listdir("/proc")):
    environment = read(f"/proc/{pid}/environ")
    seen["environments"] += environment != b""
    look(f"environ of {pid}", environment)
    arguments = read(f"/proc/{pid}/cmdline")
    seen["arguments"] += arguments != b""
    look(f"cmdline of {pid}", arguments)
    if pid == me:
        continue
    try:
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
            for line in maps:
                span, rights = line.split()[:2]
                start, end = (int(word, 16) for word in span.split("-"))
                # shared pages of the programs' own files are searched as files
                if "r" not in rights or "w" not in rights or end - start > 1 << 30:
                    continue
                try:
                    memory.seek(start)
                    data = memory.read(end - start)
                except (OSError, ValueError, OverflowError):
                    continue
                seen["memory"] += len(data)
                look(f"memory of {pid}", data)
    except OSError:
        pass
skip = ("/proc", "/sys", "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/opt", "/agent/node_modules", sys.prefix, sys.base_prefix)
for folder, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(folder, name) not in skip]
    for name in files:
        path = os.path.join(folder, name)
        if os.path.islink(path) or not os.path.isfile(path):
            continue
        data = read(path)
        seen["files"] += data != b""
        look(path, data)
print(json.dumps(seen))
`;

interface Seen {
  environments: number;
  arguments: number;
  files: number;
  memory: number;
  found: [place: string, needle: number][];
}

async function searchInside(running: RunningSession, words: readonly string[]): Promise<Seen> {
  const input = words.map((word) => Buffer.from(word).toString("hex")).join("\n");
  const outcome = await runInside(await running.agent(), ["python3", "-c", search], input);
  assert.equal(outcome.stderr, "");
  return JSON.parse(outcome.stdout);
}

test("credentials are nowhere in the sandbox: environments, arguments, files, memory", async () => {
  const other = testKey();
  await using running = await runningSession({
    changes: { knownCredentials: new Map([["HF_TOKEN", new Secret(other)]]) },
  });
  await running.say("!bash echo the agent is at work; env > /tmp/env");
  const words = [running.key, other].flatMap(credentialForms);
  const seen = await searchInside(running, words);
  assert.deepEqual(seen.found, []);
  // the search has really looked
  assert.ok(seen.environments >= 3 && seen.arguments >= 3 && seen.files >= 10, JSON.stringify(seen));
  assert.ok(seen.memory > 50 * 1024 * 1024, `${seen.memory} bytes of memory`);
});

test("the search finds what is there: the sandbox key in environment and memory, a word in a file", async () => {
  await using running = await runningSession();
  const word = `canary-${testKey()}`;
  await running.say(`!bash echo ${word} > /data/canary`);
  const agent = await running.agent();
  const seen = await searchInside(running, [word, `${agent.id}.`]);
  const places = seen.found.map(([place]) => place);
  assert.ok(places.includes("/data/canary"));
  assert.ok(places.some((place) => place.startsWith("environ of")));
  assert.ok(places.some((place) => place.startsWith("memory of")));
});

test("the host's home is not there", async () => {
  const folder = await mkdtemp(join(homedir(), ".modal-sb-test-"));
  try {
    await writeFile(join(folder, "secret"), "private");
    await using running = await runningSession();
    const outcome = await shellInside(await running.agent(), `cat ${folder}/secret; ls -A ${homedir()}`);
    // a Python below the home is shown at its own place, and nothing beside it
    assert.doesNotMatch(outcome.stdout, /private|\.modal-sb-test-|\.ssh|\.npm|\.cache|\.config/);
    assert.match(outcome.stderr, /No such file/);
  } finally {
    await rm(folder, { recursive: true });
  }
});

/** Python that connects to an address, straight and through the egress filter. */
const reach = (url: string, host: string, port: number) => `
import socket, urllib.request
def attempt(name, action):
    try:
        print(name, "REACHED", action())
    except Exception as error:
        print(name, type(error).__name__)
attempt("straight", lambda: socket.create_connection((${JSON.stringify(host)}, ${port}), 3).recv(1))
attempt("filter", lambda: urllib.request.build_opener(urllib.request.ProxyHandler({"http": "http://127.0.0.1:3128", "https": "http://127.0.0.1:3128"})).open(${JSON.stringify(url)}, timeout=600).read())
`;

async function assertUnreachable(running: RunningSession, host: string, port: number): Promise<void> {
  const outcome = await runInside(await running.agent(), [
    "python3",
    "-c",
    reach(`http://${host}:${port}/`, host, port),
  ]);
  assert.equal(outcome.stderr, "");
  assert.match(outcome.stdout, /^straight \w+\nfilter HTTPError\n$/);
}

test("services on the host's loopback are out of reach, under every name", async () => {
  await using running = await runningSession({ changes: { egressHostnames: "dangerously-allow-all-hostnames" } });
  const server = createServer((_request, response) => response.end("host service"));
  // on a port that the egress filter lets through, where we may: the address alone is then what is refused
  server.on("error", () => server.listen(0, "127.0.0.1"));
  server.listen(80, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  try {
    for (const host of ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "2130706433"]) {
      const outcome = await runInside(await running.agent(), [
        "python3",
        "-c",
        reach(`http://${host}:${port}/`, host.replace(/[[\]]/g, ""), port),
      ]);
      assert.doesNotMatch(outcome.stdout, /REACHED/, host);
    }
  } finally {
    server.close();
  }
});

test("the cloud's metadata service is out of reach", async () => {
  await using running = await runningSession({ changes: { egressHostnames: "dangerously-allow-all-hostnames" } });
  await assertUnreachable(running, "169.254.169.254", 80);
});

test("private networks are out of reach", async () => {
  await using running = await runningSession({ changes: { egressHostnames: "dangerously-allow-all-hostnames" } });
  for (const host of ["10.0.0.1", "192.168.1.1", "172.16.0.1"]) await assertUnreachable(running, host, 80);
});

test("a hostname that is not in the egress policy is refused, with words that say what is allowed", async () => {
  await using running = await runningSession({ changes: { egressHostnames: ["allowed.example"] } });
  const outcome = await shellInside(
    await running.agent(),
    "printf 'CONNECT other.example:443 HTTP/1.1\\r\\nHost: other.example:443\\r\\n\\r\\n' | socat - TCP:127.0.0.1:3128",
  );
  assert.match(outcome.stdout, /^HTTP\/1\.1 403/);
  assert.match(outcome.stdout, /allowed\.example/);
});

test("other sandboxes' volumes and processes are not there", async () => {
  await using first = await runningSession();
  await using second = await runningSession();
  await first.say("!bash echo first > /data/mine; echo $$ > /data/pid");
  const outcome = await shellInside(
    await second.agent(),
    `ls ${first.stateFolder}; find / -name mine -not -path '/proc/*' 2>/dev/null; cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep MODAL_SANDBOX_ID | sort -u`,
  );
  const ids = outcome.stdout.trim().split("\n");
  assert.deepEqual(ids, [`MODAL_SANDBOX_ID=${(await second.agent()).id}`]);
});

test("a key that is not the sandbox's own is refused, and reaches no API", async () => {
  await using running = await runningSession();
  await running.say("hello");
  const key = "sb-0000000000000000.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
  const ask = (header: string) =>
    outputInside(
      running,
      `curl -s -w ' %{http_code}' --unix-socket /run/proxy/8080.sock http://proxy/v1/models -H '${header}'`,
    );
  const before = running.api.requests.length;
  assert.match(await ask(`x-api-key: ${key}`), /unknown, expired or revoked.* 406$/);
  assert.match(await ask("x-other: none"), / 406$/);
  assert.equal(running.api.requests.length, before, "nothing of it reached the API");
});

test("the runtime, the instructions and the system are read-only, and capabilities are gone", async () => {
  await using running = await runningSession();
  const outcome = await shellInside(
    await running.agent(),
    `for path in /agent/code/agent/daemon.ts /agent/bin/node /app/.claude/CLAUDE.md /etc/passwd /usr/bin/env /run/secrets/x /proc/sys/kernel/hostname; do
       (echo x >> $path) 2>/dev/null && echo "$path WRITTEN"; done
     grep -E 'Cap(Inh|Prm|Eff|Amb)|NoNewPrivs' /proc/self/status | awk '{print $2}' | sort | uniq -c
     mount -t tmpfs x /mnt 2>/dev/null && echo MOUNTED; ls /run/secrets 2>/dev/null; true`,
  );
  assert.match(outcome.stdout, /^\s+4 0{16}\n\s+1 1\n$/);
});

test("instructions with a link to a file outside bring the link, and not the file", async () => {
  await using folder = await temporaryFolder();
  await mkdir(join(folder.path, "instructions"));
  await writeFile(join(folder.path, "private"), "host words");
  await writeFile(join(folder.path, "instructions/CLAUDE.md"), "x");
  await symlink(join(folder.path, "private"), join(folder.path, "instructions/link.md"));
  await using running = await runningSession({ changes: { instructions: join(folder.path, "instructions") } });
  const outcome = await shellInside(await running.agent(), "ls /app/.claude; cat /app/.claude/link.md");
  assert.match(outcome.stdout, /CLAUDE\.md\nlink\.md\n$/);
  assert.match(outcome.stderr, /No such file/);
});

async function outputInside(running: RunningSession, script: string): Promise<string> {
  return (await shellInside(await running.agent(), script)).stdout;
}

test("a link that an agent leaves in its volumes does not lead the next sandbox to the host's files", async () => {
  await using folder = await temporaryFolder();
  const victim = join(folder.path, "victim");
  // as open as a folder can be, so that only the sandbox's walls are in the way
  await mkdir(join(victim, ".claude"), { recursive: true });
  await Promise.all([folder.path, victim, join(victim, ".claude")].map((path) => chmod(path, 0o777)));
  await writeFile(join(victim, "secret"), "host words", { mode: 0o666 });
  const stateFolder = join(folder.path, "state");
  await using provider = await createProvider("local", { stateFolder, hostEnvironment: process.env });
  const changes = { provider, name: "linked", stateFolder };
  {
    await using first = await runningSession({ changes });
    const places = "/app /data/app /data/venv /data/home /trackio";
    const replace = `for path in ${places} /app/.claude; do mv $path $path.old; ln -s ${victim} $path; done 2> /dev/null`;
    await shellInside(await first.agent(), replace);
  }
  await using second = await runningSession({ changes });
  const outcome = await shellInside(
    await second.agent(),
    "cat /app/secret /data/app/secret /app/.claude/CLAUDE.md; echo x > /app/written; ls -A /app",
  );
  assert.doesNotMatch(outcome.stdout, /host words/);
  assert.match(outcome.stdout, /You work in a sandbox made by modal-sb/);
  assert.deepEqual((await readdir(victim)).sort(), [".claude", "secret"]);
});
