import assert from "node:assert/strict";
import type { Sandbox } from "modal";
import { askedGpu, type Cloud, run, shell } from "./cloud.ts";
import { outcomeOf, question } from "./question.ts";

/** Answers with the caller's headers. */
const server = `
import http.server, json
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
`;

/** Prints what it got, how long a request takes on a new connection and on one that is kept, and what becomes of another name. */
const client = `
import http.client, json, ssl, statistics, sys, time, urllib.error, urllib.request
from urllib.parse import urlsplit
url, other = sys.argv[1:3]
def get(url, timeout=10):
    request = urllib.request.Request(url, headers={"x-modal-sb-live": "placeholder"})
    return json.loads(urllib.request.urlopen(request, timeout=timeout).read())
def ms(action):
    start = time.time()
    action()
    return (time.time() - start) * 1000
end = time.time() + 60
while True:
    try:
        headers = get(url)
        break
    except Exception as error:
        if time.time() > end: raise
        time.sleep(0.2)
fresh = statistics.median(ms(lambda: get(url)) for _ in range(10))
at = urlsplit(url)
kept = http.client.HTTPSConnection(at.hostname, at.port or 443, timeout=10)
def again():
    kept.request("GET", "/")
    kept.getresponse().read()
again()
reused = statistics.median(ms(again) for _ in range(10))
try:
    urllib.request.urlopen(other, timeout=5)
    reached = "reached"
except urllib.error.HTTPError: reached = "reached"
except Exception as error: reached = f"not reached ({error})"[:120]
print(json.dumps({"headers": headers, "fresh": round(fresh), "reused": round(reused), "other": reached}))
`;

interface Seen {
  headers: Record<string, string>;
  fresh: number;
  reused: number;
  other: string;
}

const otherSite = "https://example.com/";
const place = 'echo "$MODAL_CLOUD_PROVIDER $MODAL_REGION"';

async function serve(cloud: Cloud): Promise<{ sandbox: Sandbox; url: string }> {
  const sandbox = await cloud.make("v2", { command: ["python3", "-c", server], encryptedPorts: [8080] });
  const url = (await sandbox.tunnels())[8080]?.url;
  if (url === undefined) throw new Error("the sandbox has no tunnel");
  return { sandbox, url };
}

async function look(sandbox: Sandbox, url: string): Promise<Seen> {
  const { code, stdout, stderr } = await run(sandbox, ["python3", "-c", client, url, otherSite]);
  if (code !== 0) throw new Error(`the agent did not reach ${url}: ${stderr.slice(-400)}`);
  return JSON.parse(stdout) as Seen;
}

question(9, async ({ cloud, answer }) => {
  const { sandbox, url } = await serve(cloud);
  const where = askedGpu();
  const agent = await cloud.make("v1", { ...where, outboundDomainAllowlist: [new URL(url).hostname] });
  const seen = await look(agent, url);
  const places = `${(await shell(agent, place)).trim()} to ${(await shell(sandbox, place)).trim()}`;
  answer(
    `V1${where.gpu ? ` with ${where.gpu}` : ", without a GPU (MODAL_SB_LIVE_GPU=1 asks for one),"} to a V2 tunnel, ${places}: ` +
      `${seen.fresh} ms a request on a new connection, ${seen.reused} ms on a kept one (medians of 10)`,
  );
  answer(`a name that is not allowed: ${seen.other}`);
  answer(`headers that the tunnel adds: ${addedHeaders(seen.headers)}`);
  assert.match(seen.other, /^not reached/);
});

function addedHeaders(headers: Readonly<Record<string, string>>): string {
  const own = ["host", "user-agent", "accept-encoding", "connection", "x-modal-sb-live"];
  return (
    Object.keys(headers)
      .filter((name) => !own.includes(name))
      .join(", ") || "none"
  );
}

question(
  8,
  async ({ cloud, answer }) => {
    const where = askedGpu();
    const kind = where.gpu ? `V1 with ${where.gpu}` : "V1 without a GPU (MODAL_SB_LIVE_GPU=1 asks for one)";
    const { url } = await serve(cloud);
    const { ExperimentalOutboundPolicy } = cloud.account().sdk;
    const experimentalOutboundPolicy = new ExperimentalOutboundPolicy().withHeaderReplacement({
      domain: "*",
      headers: { "x-modal-sb-live": "replaced" },
    });
    const policy = await outcomeOf(async () => {
      const agent = await cloud.make("v1", { ...where, experimentalOutboundPolicy });
      return `made; a header arrives as "${(await look(agent, url)).headers["x-modal-sb-live"]}"`;
    });
    answer(`${kind}: a sandbox with an outbound policy is ${policy}`);
    const sidecar = await outcomeOf(async () => {
      const agent = await cloud.make("v1", where);
      const image = await cloud.image("v1").build(await cloud.account("v1").app());
      await agent.experimentalSidecars.create("beside", image, { command: ["sleep", "60"] });
      return "made";
    });
    answer(`${kind}: a sidecar beside it is ${sidecar}`);
  },
  { notEmulated: "it has neither outbound policies nor sidecars" },
);

question(
  5,
  async ({ cloud, answer }) => {
    for (const backend of ["v1", "v2"] as const) {
      const sandbox = await cloud.make(backend, { command: ["python3", "-c", server], idleTimeoutMs: 30_000 });
      answer(`${backend.toUpperCase()}: ${await outcomeOf(() => connectToken(sandbox))}`);
    }
  },
  { notEmulated: "it has no connect tokens" },
);

/** Never tells the token itself. */
async function connectToken(sandbox: Sandbox): Promise<string> {
  const { url, token } = await sandbox.createConnectToken({ port: 8080, userMetadata: "live" });
  const statusWith = async (headers: Record<string, string>) =>
    (await fetch(url, { headers, signal: AbortSignal.timeout(20_000) })).status;
  const authorization = `Bearer ${token}`;
  const withToken = await outcomeOf(() => statusWith({ authorization }));
  const without = await outcomeOf(() => statusWith({}));
  // twice the time after which it idles out
  for (const startedAt = Date.now(); Date.now() - startedAt < 60_000; ) {
    await statusWith({ authorization }).catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 5000));
  }
  const isUp = (await sandbox.poll()) === null;
  return (
    `status ${withToken} with the token, ${without} without; ${validity(token)}; ` +
    `requests through it ${isUp ? "keep" : "do not keep"} a sandbox from idling out`
  );
}

function validity(token: string): string {
  try {
    const { exp } = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString()) as { exp?: number };
    return exp === undefined ? "it does not say until when" : `valid for ${Math.round(exp - Date.now() / 1000)} s`;
  } catch {
    return "it does not say until when";
  }
}
