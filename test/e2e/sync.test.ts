/** `modal-sb sync` as a user runs it, on a folder of the real trackio. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { User } from "../helpers/cli.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { startHubDouble } from "../hub/hub-double.ts";
import { hfToken, installTrackio, python, startTrackio, writeToken } from "../syncer/trackio.ts";

test("what cannot be meant is refused, with what to do", async () => {
  await using user = await User.create();
  const cases: [string[], RegExp][] = [
    [["sync", "/nowhere", "--space", "acme/x"], /There is no folder/],
    [["sync", "/tmp"], /give --space owner\/name, or --server/],
    [["sync", "/tmp", "--space", "acme"], /it is owner\/name/],
    [["sync", "/tmp", "--server", "ftp://x"], /no http\(s\) address/],
    [["sync", "/tmp", "--server", "http://x/?write_token=t"], /TRACKIO_WRITE_TOKEN/],
    [["sync", "/tmp", "--server", "http://x", "--interval", "60"], /from 1 to 30/],
    [["sync", "/tmp", "--space", "acme/x"], /there is none in HF_TOKEN or/],
    [["sync", "/tmp", "--server", "http://x", "--create-space"], /--create-space needs a Space's name/],
    [["sync", "/tmp", "--space", "acme/x", "--public-space"], /pass --create-space with it/],
  ];
  for (const [args, words] of cases) {
    const { code, stdout, stderr } = await user.run(args);
    assert.deepEqual([code, stdout], [2, ""], stderr);
    assert.match(stderr, words);
  }
});

test("a folder reaches a server, and a wrong token is said without showing it", async (context) => {
  const reason = await installTrackio("0.43.0");
  if (reason !== undefined) return context.skip(reason);
  await using user = await User.create();
  await using local = await temporaryFolder();
  await using remote = await temporaryFolder();
  await python("0.43.0", local.path, 'trackio.init(project="p"); trackio.log({"loss": 1}); trackio.finish()');
  await using server = await startTrackio("0.43.0", "own", remote.path);
  const args = ["sync", local.path, "--once", "--server", server.address];
  const wrong = await user.run(args, { env: { TRACKIO_WRITE_TOKEN: "a-wrong-write-token" } });
  assert.equal(wrong.code, 5);
  assert.match(wrong.stderr, /write_token is required/);
  assert.doesNotMatch(wrong.stderr, /a-wrong-write-token/);
  const right = await user.run(args, { env: { TRACKIO_WRITE_TOKEN: writeToken } });
  assert.equal(right.code, 0, right.stderr);
  assert.match(right.stderr, /p → http:\/\/127\.0\.0\.1:\d+\/: [1-9]\d* rows sent/);
  const query = "SELECT COUNT(*) AS n FROM metrics";
  const answer = (await server.call("query_project", { project: "p", query })) as { rows: unknown[] };
  assert.deepEqual(answer.rows, [{ n: 1 }]);
});

test("a missing Space is an error with what to do, and is made when that is asked for", async () => {
  await using user = await User.create();
  await using local = await temporaryFolder();
  await using remote = await temporaryFolder();
  await using hub = await startHubDouble({ folder: remote.path, token: hfToken, owners: ["acme"] });
  const settings = join(user.home, ".config/modal-sb/config.json");
  mkdirSync(dirname(settings), { recursive: true });
  writeFileSync(settings, JSON.stringify({ huggingface: { origin: hub.url } }));
  const args = ["sync", local.path, "--once", "--space", "acme/metrics"];
  const env = { HF_TOKEN: hfToken };
  const missing = await user.run(args, { env });
  assert.deepEqual([missing.code, missing.stdout], [5, ""]);
  assert.match(missing.stderr, /There is no Space acme\/metrics[\s\S]*--create-space/);
  assert.equal(hub.spaces.size, 0);
  for (const flags of [["--create-space", "--public-space"], []]) {
    const made = await user.run([...args, ...flags], { env });
    assert.equal(made.code, 0, made.stderr);
    assert.doesNotMatch(made.stderr, new RegExp(hfToken));
    assert.equal(hub.spaces.get("acme/metrics")?.visibility, "public");
  }
  // the hub is gone: the Space may answer all the same
  await using gone = await startHubDouble({ folder: remote.path, token: hfToken, owners: ["acme"] });
  gone.intercept = () => ({ status: 503 });
  writeFileSync(settings, JSON.stringify({ huggingface: { origin: gone.url } }));
  const without = await user.run(args, { env });
  assert.equal(without.code, 0, without.stderr);
  assert.match(without.stderr, /Hugging Face answered 503/);
});
