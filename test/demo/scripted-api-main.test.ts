import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { test } from "node:test";

const main = new URL("../../src/demo/scripted-api-main.ts", import.meta.url).pathname;

function start(...parameters: string[]) {
  const child = spawn(process.execPath, [main, ...parameters], { env: { SCRIPTED_API_KEY: "key" } });
  return { child, lines: createInterface({ input: child.stdout }), exited: once(child, "exit") };
}

test("the process tells its origin, asks for the key of its environment, and ends with its stdin", async () => {
  const { child, lines, exited } = start("--script", "echo");
  const [line] = await once(lines, "line");
  const { origin } = JSON.parse(line);
  const statusWith = async (key: string) =>
    (await fetch(`${origin}/v1/models`, { headers: { "x-api-key": key } })).status;
  assert.equal(await statusWith("key"), 200);
  assert.equal(await statusWith("other"), 401);
  child.stdin.end();
  assert.deepEqual(await exited, [0, null]);
});

test("the process ends with its stdin although an answer is still open", async () => {
  const { child, lines, exited } = start("--script", "echo");
  const { origin } = JSON.parse((await once(lines, "line"))[0]);
  const response = await fetch(`${origin}/v1/messages`, {
    method: "POST",
    headers: { "anthropic-version": "2023-06-01", "x-api-key": "key" },
    body: JSON.stringify({ model: "m", max_tokens: 1, stream: true, messages: [{ role: "user", content: "!hang" }] }),
  });
  child.stdin.end();
  assert.deepEqual(await exited, [0, null]);
  await assert.rejects(response.text(), /terminated/);
});

test("a script that does not exist is refused with the names of those that do", async () => {
  const { child, exited } = start("--script", "nothing");
  let complaint = "";
  child.stderr.setEncoding("utf8").on("data", (text) => {
    complaint += text;
  });
  assert.notDeepEqual(await exited, [0, null]);
  assert.match(complaint, /--script must be one of: echo, training/);
});
