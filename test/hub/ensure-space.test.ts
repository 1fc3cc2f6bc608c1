/** Making a Space: at the double of the Hub, and then the real trackio where the Space would run. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Secret } from "../../src/secret.ts";
import { type EnsureSpaceOptions, ensureSpace } from "../../src/syncer/hub/ensure-space.ts";
import { HubError } from "../../src/syncer/hub/hub-error.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { isInstalled, newest, rowsOf } from "../syncer/runs.ts";
import { hfToken } from "../syncer/trackio.ts";
import { fileIn, type HubDouble, startHubDouble } from "./hub-double.ts";
import { startSpace } from "./running-space.ts";

const spaceId = "acme/metrics";
const bucketId = "acme/metrics-bucket";
const seed = "trackio/inbox/modal-sb-welcome/00000000.jsonl";

function ensure(hub: HubDouble, changes: Partial<EnsureSpaceOptions> = {}): Promise<"found" | "created"> {
  return ensureSpace({ spaceId, token: new Secret(hfToken), create: "private", hubUrl: hub.url, ...changes });
}

test("a Space is made once: private, with its bucket, files and variables, and without a secret", async () => {
  await using folder = await temporaryFolder();
  await using hub = await startHubDouble({ folder: folder.path, token: hfToken, owners: ["acme"] });
  assert.equal(await ensure(hub), "created");
  assert.deepEqual(hub.spaces.get(spaceId), {
    ...{ id: spaceId, sdk: "gradio", visibility: "private", secrets: [], stage: "BUILDING" },
    files: {
      "README.md":
        "---\nemoji: 🎯\nsdk: gradio\napp_file: app.py\ntags:\n - trackio\nhf_oauth: true\nhf_oauth_scopes:\n - write-repos\n---\n",
      "requirements.txt": "trackio[spaces,mcp]==0.43.0\n",
      "app.py": "import trackio\n\ntrackio.show()\n",
    },
    variables: { TRACKIO_DIR: "/data/trackio", TRACKIO_BUCKET_ID: bucketId, GRADIO_MCP_SERVER: "True" },
    volumes: [{ type: "bucket", source: bucketId, mountPath: "/data" }],
  });
  assert.equal(hub.buckets.get(bucketId), true);
  const writes = () => hub.requests.filter(({ method }) => method !== "GET").length;
  const before = writes();
  assert.equal(await ensure(hub), "found");
  assert.equal(writes(), before);
  // a request for the Space holds all of it: nothing restarts it afterwards
  assert.equal(hub.requests.filter(({ path }) => path === "/api/repos/create").length, 1);
  await using other = await startHubDouble({ folder: folder.path, token: hfToken, owners: ["acme"] });
  assert.equal(await ensure(other, { create: "public" }), "created");
  assert.deepEqual([other.spaces.get(spaceId)?.visibility, other.buckets.get(bucketId)], ["public", false]);
});

test("the token goes to the Hub alone; the storage gets the short-lived one that the Hub gives", async () => {
  await using folder = await temporaryFolder();
  await using hub = await startHubDouble({ folder: folder.path, token: hfToken, owners: ["acme"] });
  await ensure(hub);
  const storage = hub.requests.filter(({ path }) => path.startsWith("cas:"));
  assert.ok(storage.length >= 2);
  assert.deepEqual(
    new Set(storage.map(({ authorization }) => authorization)),
    new Set(["Bearer short-lived-token-of-the-storage"]),
  );
  hub.spaces.clear();
  hub.intercept = () => ({ status: 307, headers: { location: `${hub.casUrl}/v1/chunks/default/redirected` } });
  await assert.rejects(ensure(hub), /a redirect, which is not followed/);
  assert.ok(!hub.requests.some(({ path }) => path.includes("redirected")));
});

const refusals: [status: number, words: string, expected: RegExp, hint: RegExp][] = [
  [401, "Invalid username or password.", /does not accept the token: Invalid username/, /settings\/tokens/],
  [402, "Subscribe to PRO", /wants a paid plan to make the Space acme\/metrics.*Subscribe to PRO/, /pricing/],
  [403, "no rights", /The token may not make the Space acme\/metrics for "acme": no rights/, /right to write/],
  [404, "Not found", /knows no owner "acme" that the token may write to/, /your user name, or an organisation's/],
  [500, "oops", /Hugging Face answered 500: oops/, /^$/],
];

for (const [status, words, expected, hint] of refusals) {
  test(`what the Hub refuses with ${status} is said in words`, async () => {
    await using folder = await temporaryFolder();
    await using hub = await startHubDouble({ folder: folder.path, token: hfToken, owners: ["acme"] });
    hub.intercept = ({ path }) =>
      path === "/api/repos/create" ? { status, body: { error: `${words}\u001b[2J` } } : undefined;
    await assert.rejects(ensure(hub), (error: HubError) => {
      assert.ok(error instanceof HubError);
      assert.match(error.message, expected);
      assert.match(error.hint ?? "", hint);
      assert.ok(!error.message.includes("\u001b"));
      return true;
    });
  });
}

test("an owner that the token may not write to, a wrong token, a missing Space and no Hub are said", async () => {
  await using folder = await temporaryFolder();
  await using hub = await startHubDouble({ folder: folder.path, token: hfToken, owners: ["acme"] });
  await assert.rejects(ensure(hub, { spaceId: "other/x" }), /may not make the bucket other\/x-bucket.*rights/);
  await assert.rejects(ensure(hub, { token: new Secret("hf_a_wrong_one") }), (error: HubError) => {
    assert.match(error.message, /does not accept the token/);
    assert.doesNotMatch(`${error.stack}`, /hf_a_wrong_one/);
    return true;
  });
  await assert.rejects(ensure(hub, { create: undefined }), (error: HubError) => {
    assert.match(error.message, /There is no Space acme\/metrics/);
    assert.match(error.hint ?? "", /--create-space/);
    return true;
  });
  hub.intercept = () => ({ status: 500, body: { error: `you sent ${hfToken}` } });
  await assert.rejects(ensure(hub), /words that hold the token/);
  await assert.rejects(ensure(hub, { hubUrl: "http://127.0.0.1:9" }), /cannot be reached/);
});

test("a conflict with another creation is waited out", async () => {
  await using folder = await temporaryFolder();
  await using hub = await startHubDouble({ folder: folder.path, token: hfToken, owners: ["acme"] });
  const error = "Cannot create repo: another conflicting operation is in progress";
  let conflicts = 2;
  hub.intercept = ({ path }) => {
    if (path !== "/api/repos/create" || conflicts === 0) return undefined;
    conflicts -= 1;
    return { status: 409, body: { error } };
  };
  assert.equal(await ensure(hub), "created");
});

test("a Space that somebody makes in between is found", async () => {
  await using folder = await temporaryFolder();
  await using hub = await startHubDouble({ folder: folder.path, token: hfToken, owners: ["acme"] });
  await using other = await startHubDouble({ folder: folder.path, token: hfToken, owners: ["acme"] });
  await ensure(other);
  const made = other.spaces.get(spaceId);
  assert.ok(made);
  hub.intercept = ({ path }) => {
    if (path === "/api/repos/create") hub.spaces.set(spaceId, made);
    return undefined;
  };
  assert.equal(await ensure(hub), "found");
});

test("a Space that is frozen or not trackio's is refused, and one that answers as trackio is taken", async () => {
  await using folder = await temporaryFolder();
  await using hub = await startHubDouble({ folder: folder.path, token: hfToken, owners: ["acme"] });
  const space = { id: spaceId, visibility: "private", variables: {}, secrets: [], volumes: [], stage: "RUNNING" };
  const tagged = { "README.md": "---\ntags:\n - trackio\n---\n" };
  hub.spaces.set(spaceId, { ...space, sdk: "static", files: tagged });
  await assert.rejects(ensure(hub), /is static: frozen/);
  hub.spaces.set(spaceId, { ...space, sdk: "gradio", files: {} });
  await assert.rejects(ensure(hub), /is not one of trackio's/);
  await assert.rejects(ensure(hub, { answers: async () => false }), /is not one of trackio's/);
  assert.equal(await ensure(hub, { answers: async () => true }), "found");
  hub.spaces.set(spaceId, { ...space, sdk: "gradio", files: tagged });
  assert.equal(await ensure(hub), "found");
});

test("a bucket that is there is taken, but not a public one for a private Space; its metrics get no seed", async () => {
  await using folder = await temporaryFolder();
  await using hub = await startHubDouble({ folder: folder.path, token: hfToken, owners: ["acme"] });
  hub.buckets.set(bucketId, false);
  await assert.rejects(ensure(hub), /bucket acme\/metrics-bucket is there already, and is not private/);
  assert.equal(hub.spaces.size, 0);
  hub.buckets.set(bucketId, true);
  mkdirSync(join(hub.bucketFolder(bucketId), "trackio"), { recursive: true });
  writeFileSync(join(hub.bucketFolder(bucketId), "trackio/p.db"), "");
  assert.equal(await ensure(hub), "created");
  assert.throws(() => fileIn(hub, bucketId, seed), /ENOENT/);
});

test("cut off after any of its requests and begun again, it comes to the same end", async () => {
  await using folder = await temporaryFolder();
  const whole = await startHubDouble({ folder: join(folder.path, "whole"), token: hfToken, owners: ["acme"] });
  await ensure(whole);
  const total = whole.requests.length;
  const expected = whole.spaces.get(spaceId);
  await whole[Symbol.asyncDispose]();
  assert.ok(total >= 8, `${total} requests`);
  for (const isDone of [true, false]) {
    for (let cutAt = 1; cutAt <= total; cutAt += 1) {
      const place = join(folder.path, `${isDone}-${cutAt}`);
      await using hub = await startHubDouble({ folder: place, token: hfToken, owners: ["acme"] });
      let count = 0;
      hub.intercept = () => {
        count += 1;
        if (count !== cutAt) return undefined;
        // the request did its work and the answer is lost, or it never arrived
        return isDone ? "cut" : { status: 503, body: {} };
      };
      await ensure(hub).catch((error) => assert.ok(error instanceof HubError));
      hub.intercept = undefined;
      await ensure(hub);
      assert.deepEqual(hub.spaces.get(spaceId), expected, `cut at ${cutAt}`);
      const record = JSON.parse(fileIn(hub, bucketId, seed)) as { project: string };
      assert.equal(record.project, "modal-sb-welcome");
    }
  }
});

test("a new Space's dashboard shows the seed, once, when it starts", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using folder = await temporaryFolder();
  await using hub = await startHubDouble({ folder: folder.path, token: hfToken, owners: ["acme"] });
  await ensure(hub);
  await using space = await startSpace(hub, spaceId);
  await space.call("force_sync", {});
  assert.deepEqual(await space.call("get_all_projects", {}), ["modal-sb-welcome"]);
  const { metrics, configs } = rowsOf(join(space.folder, "modal-sb-welcome.db"));
  assert.deepEqual([metrics?.length, configs?.length], [1, 1]);
});
