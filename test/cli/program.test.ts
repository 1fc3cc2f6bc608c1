import assert from "node:assert/strict";
import { test } from "node:test";
import { parseArguments } from "../../src/cli/program.ts";

function parse(...argv: string[]): Record<string, unknown> {
  return { ...parseArguments(argv, "1.0.0")?.request };
}

/** The settings that flags give. */
function flags(...argv: string[]): Record<string, unknown> {
  const given = parse(...argv)["flags"] as object;
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

test("shell: what stands behind -- is the command, and no session", () => {
  const cases: [argv: string[], session: string | undefined, command: string[]][] = [
    [[], undefined, []],
    [["one"], "one", []],
    [["--", "ls", "-la"], undefined, ["ls", "-la"]],
    [["one", "--", "sh", "-c", "exit 3"], "one", ["sh", "-c", "exit 3"]],
    [["one", "--", "ls", "--", "x"], "one", ["ls", "--", "x"]],
    [["one", "ls"], "one", ["ls"]],
    [["--"], undefined, []],
  ];
  for (const [argv, session, command] of cases) {
    const request = parse("shell", ...argv);
    assert.deepEqual([request["session"], request["argv"]], [session, command], argv.join(" "));
  }
});

test("flags go to their settings", () => {
  assert.deepEqual(
    flags(
      "ls",
      "--on",
      "modal",
      "--gpu",
      "H100,A10",
      "--cpu",
      "4",
      "--region",
      "eu",
      "--max-wait",
      "5",
      "--egress",
      "ml",
    ),
    { provider: "modal", gpu: "H100,A10", cpuCores: "4", regions: "eu", maxWaitMinutes: "5", egress: "ml" },
  );
  assert.deepEqual(flags("--egress", "a.org,b.org"), { egress: { allow: ["a.org", "b.org"] } });
  assert.throws(() => flags("--egress", "ml", "--allow-host", "a.org"), /cannot be used with/);
});

test("attach takes the flags of the whole program, before and behind it", () => {
  const request = parse("--output", "stream-json", "attach", "one", "--detach");
  assert.deepEqual([request["session"], request["format"], request["detach"]], ["one", "stream-json", true]);
  assert.equal(parse("-p", "hi", "--detach")["detach"], true);
  assert.equal(parse("-p", "hi")["detach"], false);
});

test("gc takes no number that is none", () => {
  assert.throws(() => parse("gc", "--max", "many"), /whole number/);
  assert.throws(() => parse("gc", "--max", "0"), /whole number/);
  assert.deepEqual([parse("gc")["max"], parse("gc", "--max", "3", "-y")["yes"]], [20, true]);
});
