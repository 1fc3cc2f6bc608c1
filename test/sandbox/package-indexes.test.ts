import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { parseIni, readPackageIndexes } from "../../src/sandbox/local/package-indexes.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";

const noFiles = { PIP_CONFIG_FILE: "/nonexistent" };

test("parseIni() reads the sections asked for, lists over several lines, and comments", () => {
  const text = `[global]
index-url = https://one/simple
extra_index_url =
    https://two/simple
    https://three/simple
# comment
; comment
[other]
index-url = https://no
[install]
find-links=/wheels`;
  assert.deepEqual(
    [...parseIni(text, ["global", "install"])],
    [
      ["index-url", "https://one/simple"],
      ["extra-index-url", "https://two/simple https://three/simple"],
      ["find-links", "/wheels"],
    ],
  );
});

test("an index of the host becomes a variable and an endpoint, without its user and password", () => {
  const indexes = readPackageIndexes(
    { ...noFiles, PIP_INDEX_URL: "https://user:secret-word@mirror.internal:8443/simple" },
    "/nonexistent",
  );
  assert.equal(indexes.environment["PIP_INDEX_URL"], "https://mirror.internal:8443/simple");
  assert.deepEqual(
    indexes.endpoints.filter(({ hostname }) => hostname === "mirror.internal"),
    [{ hostname: "mirror.internal", port: 8443 }],
  );
  assert.match(indexes.warnings.join(), /mirror\.internal needs a password/);
  assert.ok(!JSON.stringify(indexes).includes("secret-word"));
});

test("npm's registry is taken from the user's file, and its token is not", async () => {
  await using home = await temporaryFolder();
  await writeFile(join(home.path, ".npmrc"), "registry=https://npm.internal/\n//npm.internal/:_authToken=npm_secret\n");
  const indexes = readPackageIndexes(noFiles, home.path);
  assert.equal(indexes.environment["NPM_CONFIG_REGISTRY"], "https://npm.internal/");
  assert.ok(!JSON.stringify(indexes).includes("npm_secret"));
});

test("a folder of packages that the settings name is shown inside; a missing one is not", async () => {
  await using home = await temporaryFolder();
  const wheels = join(home.path, "wheels");
  await mkdir(wheels);
  const indexes = readPackageIndexes({ ...noFiles, PIP_FIND_LINKS: `${wheels} /no/such/folder` }, "/nonexistent");
  assert.ok(indexes.paths.includes(wheels) && !indexes.paths.includes("/no/such/folder"));
});
