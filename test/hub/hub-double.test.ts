/** The double of the Hub, driven by the real Python client with its real uploader. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { isInstalled, newest } from "../syncer/runs.ts";
import { python } from "../syncer/trackio.ts";
import { fileIn, startHubDouble } from "./hub-double.ts";

const token = "hf_token_of_the_test";

const program = `
import huggingface_hub as hub, os, sys
from huggingface_hub import Volume
home = os.environ["HOME"]
hub.create_bucket("acme/metrics-bucket", private=True)
hub.create_bucket("acme/metrics-bucket", private=True, exist_ok=True)
assert hub.bucket_info("acme/metrics-bucket").private
hub.create_repo("acme/metrics", repo_type="space", space_sdk="gradio", private=True,
    space_variables=[{"key": "A", "value": "b"}],
    space_volumes=[Volume(type="bucket", source="acme/metrics-bucket", mount_path="/data")])
api = hub.HfApi()
assert api.get_space_runtime("acme/metrics").volumes[0].source == "acme/metrics-bucket"
assert api.space_info("acme/metrics").sdk == "gradio"
api.auth_check("acme/metrics", repo_type="space", write=True)
hub.batch_bucket_files("acme/metrics-bucket", add=[
    (b"one\\n" * 5000, "trackio/inbox/w/00000000.jsonl"),
    (home + "/random", "random"), (home + "/floats", "floats"), (b"", "empty")])
print(sorted(item.path for item in hub.list_bucket_tree("acme/metrics-bucket", prefix="trackio", recursive=True) if item.type == "file"))
hub.batch_bucket_files("acme/metrics-bucket", delete=["trackio/inbox/w/00000000.jsonl"])
try:
    hub.create_repo("other/metrics", repo_type="space", space_sdk="gradio")
except hub.errors.HfHubHTTPError as error:
    print(error.response.status_code)
`;

test("huggingface_hub makes a Space and a bucket at the double, and its files arrive byte for byte", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using local = await temporaryFolder();
  await using remote = await temporaryFolder();
  await using double = await startHubDouble({ folder: remote.path, token, owners: ["acme"] });
  const random = randomBytes(300_000);
  const floats = Buffer.from(new Float32Array(60_000).map((_zero, index) => index / 7).buffer);
  writeFileSync(join(local.path, "random"), random);
  writeFileSync(join(local.path, "floats"), floats);
  const words = await python(newest, local.path, program, {
    ...{ HF_ENDPOINT: double.url, HF_TOKEN: token, HF_HUB_OFFLINE: "0", HF_HUB_DISABLE_PROGRESS_BARS: "1" },
    // the uploader's older way, which is that of the library that we use
    ...{ HF_XET_CLIENT_LEGACY_DIRECT_XORB_UPLOAD: "1", HF_XET_CLIENT_SHARD_API_VERSION: "1" },
    ...{ HF_XET_TELEMETRY_ENABLED: "0", HF_HUB_DISABLE_TELEMETRY: "1" },
  });
  assert.equal(words, "['trackio/inbox/w/00000000.jsonl']\n403\n");
  assert.deepEqual(double.spaces.get("acme/metrics")?.variables, { A: "b" });
  const bytes = (path: string) => Buffer.from(fileIn(double, "acme/metrics-bucket", path), "latin1");
  assert.deepEqual(bytes("random"), random);
  assert.deepEqual(bytes("floats"), floats);
  assert.equal(bytes("empty").length, 0);
  assert.throws(() => bytes("trackio/inbox/w/00000000.jsonl"), /ENOENT/);
});
