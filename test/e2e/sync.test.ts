/** `modal-sb sync` as a user runs it, on a folder of the real trackio. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { User } from "../helpers/cli.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { installTrackio, python, startTrackio, writeToken } from "../syncer/trackio.ts";

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
