import assert from "node:assert/strict";
import { utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { CredentialSource } from "../../src/config/credential-source.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";

const read = (description: { env?: string; file?: string; command?: string }, environment = {}) =>
  new CredentialSource(description, environment, "--key-command").read();

test("a credential comes from a variable, a file, or what a command prints", async () => {
  await using folder = await temporaryFolder();
  const file = join(folder.path, "key");
  await writeFile(file, "sk-from-file\n");
  assert.equal((await read({ env: "KEY" }, { KEY: " sk-from-variable " })).reveal(), "sk-from-variable");
  assert.equal((await read({ file })).reveal(), "sk-from-file");
  assert.equal((await read({ command: "echo sk-from-command" })).reveal(), "sk-from-command");
});

test("what cannot be read is an error that names the place, and never what was there", async () => {
  await using folder = await temporaryFolder();
  const file = join(folder.path, "key");
  await writeFile(file, "sk-one\nsk-two");
  await assert.rejects(read({ env: "KEY" }), /no credential in the variable KEY/);
  await assert.rejects(read({ file: "/nonexistent" }), /Cannot read the file of --key-command/);
  await assert.rejects(read({ file }), (error: Error) => {
    assert.match(error.message, /does not hold one credential/);
    assert.doesNotMatch(error.message, /sk-/);
    return true;
  });
  await assert.rejects(read({ command: "echo sk-half; echo not signed in >&2; exit 3" }), (error: Error) => {
    assert.equal(error.message, "The command of --key-command ended with code 3: not signed in");
    return true;
  });
  await assert.rejects(read({ command: "true" }), /no credential in the output of the command/);
});

test("a file has changed when it was written since it was read", async () => {
  await using folder = await temporaryFolder();
  const file = join(folder.path, "key");
  await writeFile(file, "sk-one");
  const source = new CredentialSource({ file }, {}, "--key-file");
  assert.equal(source.hasChanged(), false);
  await source.read();
  assert.equal(source.hasChanged(), false);
  await utimes(file, new Date(), new Date(Date.now() + 5000));
  assert.equal(source.hasChanged(), true);
  await source.read();
  assert.equal(source.hasChanged(), false);
});
