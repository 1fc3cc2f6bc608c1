/** What is an attacker's to try on Modal in particular: public tunnels, reused names, tags from elsewhere, and where credentials could lie. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { open, readdir, readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { request } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { connect } from "node:tls";
import { credentialForms } from "../../../src/credential-forms.ts";
import {
  assertNothingRuns,
  modalSession,
  runningOf,
  sandboxOf,
  untilNothingRuns,
} from "../../helpers/modal-session.ts";
import { type ModalUser, modalUser } from "../../helpers/modal-user.ts";
import type { EmulatedSandbox, Emulator } from "../../modal-emulator/emulator.ts";
import { whyNot } from "../../modal-emulator/emulator.ts";

const reason = await whyNot();
const hfToken = "hf_kept_at_modal_only_AbCdEfGhIjKl";
const githubToken = "github_pat_kept_at_modal_only_123456";

describe("attacks that only Modal makes possible", { skip: reason ?? false }, () => {
  let modal: ModalUser;
  const undo = new AsyncDisposableStack();
  before(async () => {
    const server = createServer((incoming, response) => response.end(`asked for ${incoming.headers.host}`));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    undo.defer(() => void server.close());
    const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    modal = undo.use(
      await modalUser({
        world: { "allowed.example": address, "hidden.example": address },
        secrets: { "hf-secret": { HF_TOKEN: hfToken }, "github-secret": { GITHUB_TOKEN: githubToken } },
      }),
    );
    modal.env["MODAL_SB_CREATIONS_PER_HOUR"] = "1000";
  });
  after(() => undo.disposeAsync());

  /** Runs a command in the agent's sandbox. */
  const inAgent = (session: string, ...argv: string[]) => modal.run(["shell", session, "--", ...argv]);

  test("the agent reaches its own proxy, no other tunnel; fronting passes where Modal lets it, and only there", async () => {
    await using one = modalSession(modal, ["-s", "one", "--allow-host", "allowed.example"]);
    await using two = modalSession(modal, ["-s", "two"]);
    await Promise.all([one.turn("hello"), two.turn("hello")]);
    const [mine, theirs] = ["one", "two"].map((name) => proxyOf(sandboxOf(modal, name, "agent")));
    const { domains = [] } = sandboxOf(modal, "one", "agent");
    const tunnels = domains.filter((domain) => /modal\.(host|run|com)$/.test(domain));
    assert.deepEqual(tunnels, [mine?.hostname], "the exact host of the session's own proxy");
    assert.ok(domains.every((domain) => !/^\*(\.|$)/.test(domain) || !"x.w.modal.host".endsWith(domain.slice(1))));
    assert.deepEqual(sandboxOf(modal, "one", "proxy").domains, ["api.anthropic.com"]);

    assert.equal((await inAgent("one", "curl", "-fsS", `${mine?.origin}/healthz`)).code, 0);
    const refused = await inAgent("one", "curl", "-sS", `${theirs?.origin}/healthz`);
    assert.notEqual(refused.code, 0);
    assert.equal(refused.stdout, "");
    assert.match(refused.stderr, /curl: \((35|56)\)/);
    const hidden = await inAgent("one", "curl", "-sS", "https://hidden.example/");
    assert.notEqual(hidden.code, 0);
    // the limit that docs/modal.md states: the name in the handshake decides, not the Host header
    const fronted = await inAgent("one", "curl", "-sS", "-H", "Host: hidden.example", "https://allowed.example/");
    assert.equal(fronted.stdout, "asked for hidden.example\n".trim());
    const toOther = await inAgent("one", "curl", "-sS", "-H", `Host: ${theirs?.host}`, `${mine?.origin}/v1/messages`);
    assert.match(toOther.stdout, /modal-sb proxy: /, "its own proxy answers, whatever host is asked for");
    for (const session of [one, two]) assert.equal(await session.leave(), 0);
    assertNothingRuns(modal);
  });

  test("a hostname that covers other customers' tunnels is refused", async () => {
    for (const hostname of ["*.w.modal.host", "*.modal.host", "ta-1-8080-2.w.modal.host"]) {
      const { code, stderr } = await modal.run(["-s", "wide", "--allow-host", hostname, "-p", "hello"]);
      assert.equal(code, 2, `${hostname}: ${stderr}`);
      assert.match(stderr, /^error: /m);
      const made = modal.emulator.sandboxes().filter(({ tags }) => tags["session"] === "wide");
      assert.equal(made.length, 0, "not even a proxy was made");
    }
  });

  test("whoever finds the tunnel meets a refusal: without a key, with a wrong one, with another session's, with an old one", async () => {
    await using one = modalSession(modal, ["-s", "keyed"]);
    await using two = modalSession(modal, ["-s", "other"]);
    await Promise.all([one.turn("hello"), two.turn("hello")]);
    const first = sandboxOf(modal, "keyed", "agent");
    const key = keyOf(first);
    assert.equal(await askProxy(modal.emulator, first, key), 200, "the right key is known");
    const wrongKeys = [
      undefined,
      "",
      modal.user.key,
      `${first.id}.${"A".repeat(43)}`,
      `${key}A`,
      key.slice(0, -1),
      keyOf(sandboxOf(modal, "other", "agent")),
      `${sandboxOf(modal, "keyed", "proxy").id}.${first.env["MODAL_SB_SANDBOX_TOKEN"]}`,
    ];
    for (const wrong of wrongKeys)
      assert.equal(await askProxy(modal.emulator, first, wrong), 406, String(wrong?.length));

    await modal.emulator.preempt(first.id);
    await one.talk.until("stderr", /The agent's sandbox was lost/);
    await one.turn("again");
    const second = sandboxOf(modal, "keyed", "agent");
    assert.equal(second.name, first.name, "the name is used again");
    assert.notEqual(second.id, first.id);
    assert.notEqual(second.env["MODAL_SB_SANDBOX_TOKEN"], first.env["MODAL_SB_SANDBOX_TOKEN"]);
    assert.equal(await askProxy(modal.emulator, second, keyOf(second)), 200);
    const oldKeys = [
      key,
      `${second.id}.${first.env["MODAL_SB_SANDBOX_TOKEN"]}`,
      `${first.id}.${second.env["MODAL_SB_SANDBOX_TOKEN"]}`,
    ];
    for (const old of oldKeys) assert.equal(await askProxy(modal.emulator, second, old), 406);
    await assert.rejects(askProxy(modal.emulator, first, key), "the tunnel of the old proxy is gone");
    for (const session of [one, two]) assert.equal(await session.leave(), 0);
    assertNothingRuns(modal);
  });

  test("names: bad ones are refused before anything is made; the longest one is found again whole", async () => {
    const made = modal.emulator.sandboxes().length;
    for (const name of ["../up", "a b", "a;rm", "-s", "ü", "a\nb", "$(id)", "", "x".repeat(65)]) {
      const { code, stderr } = await modal.run([`--session=${name}`, "-p", "hello"]);
      assert.equal(code, 2, `${JSON.stringify(name)}: ${stderr}`);
    }
    assert.equal(modal.emulator.sandboxes().length, made);
    const longest = `a__b_5f-_${"c_".repeat(30)}`.slice(0, 64);
    const left = await modal.run(["-s", longest, "--detach", "-p", "!bash sleep 600"]);
    assert.equal(left.code, 0, left.stderr);
    for (const { name } of runningOf(modal)) assert.match(name, /^[A-Za-z0-9._-]{1,63}$/);
    assert.match((await modal.run(["ls"])).stdout, new RegExp(`^${longest} .*agent`, "m"));
    assert.match((await modal.run(["gc", "--yes"])).stdout, new RegExp(`keep +${longest} +agent`));
    const stopped = await modal.run(["stop", longest]);
    assert.equal(stopped.code, 0, stopped.stderr);
    assertNothingRuns(modal);
  });

  test("credentials that are kept at Modal: nowhere but in the sandboxes of the roles that use them", async () => {
    const secrets = [modal.user.key, hfToken, githubToken];
    const forms = secrets.flatMap(credentialForms);
    const assertNone = (place: string, text: string) => {
      for (const form of forms) assert.ok(!text.includes(form), `a credential in ${place}`);
    };
    await using session = modalSession(modal, ["--github", "owner/name", "--huggingface", "-s", "canary"]);
    const said = await session.turn(
      "!bash env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n' | sort -u",
    );
    await session.turn("!bash ls -R /run /data /app > /data/list; sync /data; echo done");
    const agent = sandboxOf(modal, "canary", "agent");
    const proxy = sandboxOf(modal, "canary", "proxy");
    for (const secret of secrets) assert.ok(JSON.stringify(proxy.env).includes(secret), "Modal gives it to the proxy");

    assertNone("the agent's definition", JSON.stringify(agent));
    assertNone("the proxy's arguments and tags", JSON.stringify([proxy.args, proxy.tags, proxy.name]));
    assertNone("the images", JSON.stringify(modal.emulator.images()));
    assertNone("what the agent saw", said);
    const searched = await modal.run(["shell", "canary", "--", "python3", "-c", search], {
      input: [...forms, keyOf(agent)].map((form) => `${Buffer.from(form).toString("hex")}\n`).join(""),
    });
    assert.equal(searched.code, 0, searched.stderr);
    const seen = JSON.parse(searched.stdout) as { bytes: number; found: number[] };
    assert.deepEqual(seen.found, [forms.length], "all that is found is the sandbox's own key");
    assert.ok(seen.bytes > 50e6, `${seen.bytes} bytes were searched`);

    const { pid = 0 } = session.child;
    for (const file of ["environ", "cmdline"])
      assertNone(`the command's ${file}`, readFileSync(`/proc/${pid}/${file}`, "latin1"));
    const memory = await memoryOf(pid);
    assert.ok(memory.includes(modal.emulator.environment["MODAL_TOKEN_SECRET"] as string), "its memory can be read");
    assertNone("the command's memory", memory);
    assertNone("the command's words", `${session.talk.stdout()}${session.talk.stderr()}`);
    const logs = await modal.run(["logs", "canary"]);
    assertNone("the logs", `${logs.stdout}${logs.stderr}`);
    assert.equal(await session.leave(), 0);
    await untilNothingRuns(modal);
    assertNone("the user's files", (await contentOf(modal.user.home)).join("\n"));
    const volumes = await Promise.all(modal.emulator.volumes().map(({ committedPath }) => contentOf(committedPath)));
    assert.ok(volumes.flat().some((content) => content.includes("canary") || content.includes("done")));
    assertNone("the volumes", volumes.flat().join("\n"));
  });
});

/** Looks for lines of hex from its input in all memory, environments and files of the sandbox; prints which it has found. */
const search = `
import json, os, sys
needles = [bytes.fromhex(line) for line in sys.stdin.read().split()]
found, total = set(), 0
def look(data):
    global total
    total += len(data)
    found.update(number for number, needle in enumerate(needles) if needle in data)
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) == os.getpid():
        continue
    for name in ("environ", "cmdline"):
        try:
            look(open(f"/proc/{pid}/{name}", "rb").read())
        except OSError:
            pass
    try:
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
            for line in maps:
                span, rights = line.split()[:2]
                start, end = (int(word, 16) for word in span.split("-"))
                if "rw" in rights and end - start < 1 << 30:
                    try:
                        memory.seek(start)
                        look(memory.read(end - start))
                    except (OSError, ValueError, OverflowError):
                        pass
    except OSError:
        pass
for root in ("/app", "/data", "/run", "/tmp", "/root", "/etc", "/var", "/agent/code"):
    for folder, _, files in os.walk(root):
        for name in files:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                try:
                    look(open(path, "rb").read())
                except OSError:
                    pass
print(json.dumps({"bytes": total, "found": sorted(found)}))
`;

function proxyOf({ env }: EmulatedSandbox): URL {
  return new URL(env["ANTHROPIC_BASE_URL"] as string);
}

function keyOf({ id, env }: EmulatedSandbox): string {
  return `${id}.${env["MODAL_SB_SANDBOX_TOKEN"]}`;
}

/** Asks the proxy of an agent from the internet; the status. Rejects when nobody is there. */
async function askProxy(emulator: Emulator, agent: EmulatedSandbox, key: string | undefined): Promise<number> {
  const { hostname } = proxyOf(agent);
  const socket = connect({
    socket: await emulator.network.hostDial(hostname),
    servername: hostname,
    ca: readFileSync(emulator.network.caPath),
  });
  const body = JSON.stringify({
    model: "claude-sonnet-4-5",
    max_tokens: 10,
    messages: [{ role: "user", content: "hi" }],
  });
  return await new Promise((resolve, reject) => {
    socket.once("error", reject);
    const asking = request(
      {
        ...{ host: hostname, method: "POST", path: "/v1/messages", createConnection: () => socket },
        headers: {
          ...{ "content-type": "application/json", "anthropic-version": "2023-06-01" },
          ...(key !== undefined && { "x-api-key": key }),
        },
      },
      (response) => {
        response.resume();
        response.once("close", () => {
          socket.destroy();
          resolve(response.statusCode ?? 0);
        });
      },
    );
    asking.once("error", reject);
    asking.end(body);
  });
}

/** What a process can write to in its memory, as one text of bytes. */
async function memoryOf(pid: number): Promise<string> {
  const maps = await readFile(`/proc/${pid}/maps`, "utf8");
  await using memory = await open(`/proc/${pid}/mem`, "r");
  let text = "";
  for (const [, start = "", end = ""] of maps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) rw/gm)) {
    const length = Number(BigInt(`0x${end}`) - BigInt(`0x${start}`));
    if (length > 256 * 1024 * 1024) continue;
    const buffer = Buffer.alloc(length);
    // guard pages cannot be read
    const { bytesRead } = await memory
      .read(buffer, 0, length, BigInt(`0x${start}`) as never)
      .catch(() => ({ bytesRead: 0 }));
    text += buffer.toString("latin1", 0, bytesRead);
  }
  return text;
}

async function contentOf(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return await Promise.all(files.map((file) => readFile(join(file.parentPath, file.name), "latin1")));
}
