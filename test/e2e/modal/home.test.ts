/** The agent's home on Modal: it speaks of the machine that was asked for, and its layer is found again. */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { canEmulate, modalUser } from "../../helpers/modal-user.ts";

test("a project's home: facts of the GPU machine, the same image while nothing changes, another when it does", async (context) => {
  if (!(await canEmulate(context))) return;
  await using modal = await modalUser();
  const { emulator, user } = modal;
  assert.equal((await user.run(["init"])).code, 0);
  const path = join(user.home, "project/.claude/CLAUDE.md");
  const start = async (...flags: string[]) => {
    const found = await modal.run(["--gpu", "A10", "-p", "!bash cat /app/.claude/CLAUDE.md; id -u", ...flags]);
    assert.equal(found.code, 0, found.stderr);
    return { said: found.stdout, images: emulator.images().length };
  };
  const first = await start();
  for (const words of [
    /GPU: an A10 with 24 GB\. Memory: 8 GiB/,
    /the last few seconds can be lost/,
    /`\*\.hf\.co`/,
    /Debian packages\*\* can be installed where `id -u` says 0/,
  ]) {
    assert.match(first.said, words);
  }
  assert.equal((await start()).images, first.images, "the same text, the same layer");
  const { body } = user.api.requests.at(-1) ?? {};
  assert.match(JSON.stringify(body), /GPU: an A10 with 24 GB/);
  await writeFile(path, `${await readFile(path, "utf8")}\nA quince.\n`);
  assert.ok((await start()).images > first.images, "what has changed is built anew");
});
