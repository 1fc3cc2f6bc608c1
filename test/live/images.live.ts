import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ImageBuilder } from "../../src/sandbox/modal/image-build.ts";
import { imagePlan } from "../../src/sandbox/modal/image-plan.ts";
import { sandboxSpec } from "../helpers/sandbox-spec.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { outcomeOf, question } from "./question.ts";

const root = join(import.meta.dirname, "../..");
/** characters in one command, as src/sandbox/modal/image-plan.ts has them */
const pieceCharacters = 60_000;
/** commands with our runtime's files; and with the largest archive that is sent at all */
const runtimePieces = 17;
const mostPieces = 373;

// builds are not booked: Modal lists no price for them
question(11, async ({ cloud, answer }) => {
  const account = cloud.account();
  const app = await account.app();
  await using folder = await temporaryFolder();
  const npmPackage = { name: "commander", version: installedVersion("commander") };
  const hostPath = join(root, "node_modules/commander");
  const plan = imagePlan(
    sandboxSpec({ role: "proxy", files: [{ hostPath, path: "/agent/node_modules/commander", npmPackage }] }),
  );
  const first = await timed(async () => (await new ImageBuilder(account, folder.path).build(plan, {})).imageId);
  answer(`the image of a trusted role, from the registries or kept by an earlier run: ${first.seconds} s`);
  const again = await timed(async () => {
    await using other = await temporaryFolder();
    return (await new ImageBuilder(account, other.path).build(plan, {})).imageId;
  });
  answer(
    `the same text again: ${again.seconds} s, ${again.value === first.value ? "the same image" : "another image"}`,
  );

  const nonce = randomBytes(6).toString("hex");
  const { name, version } = npmPackage;
  const base = await account.client.images.fromId(first.value);
  const install = `RUN /agent/bin/npm install --prefix /tmp/${nonce} ${name}@${version}`;
  const fresh = await timed(() => outcomeOf(async () => (await base.dockerfileCommands([install]).build(app)).imageId));
  answer(`npm in a build that was never made before: ${fresh.seconds} s, ${fresh.value}`);

  const sizes = cloud.isEmulator ? [2] : [runtimePieces, 70, mostPieces];
  const outcomes = [];
  for (const pieces of sizes) {
    const commands = Array.from(
      { length: pieces },
      (_, index) => `RUN echo ${index}${nonce.repeat(pieceCharacters / 12)} > /dev/null`,
    );
    const built = await timed(() => outcomeOf(async () => void (await base.dockerfileCommands(commands).build(app))));
    const kib = Math.round(commands.join("\n").length / 1024);
    outcomes.push(built.value);
    answer(
      `${pieces} commands with ${kib} KiB: ${built.value === "undefined" ? "built" : built.value} in ${built.seconds} s`,
    );
  }
  assert.match(fresh.value, /^im-/, "a build reaches the registry");
  assert.equal(again.value, first.value, "layers are kept by their text");
  assert.equal(outcomes[0], "undefined", "our runtime's files fit");
});

function installedVersion(name: string): string {
  const { dependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
    dependencies: Record<string, string>;
  };
  return dependencies[name] as string;
}

async function timed<Value>(action: () => Promise<Value>): Promise<{ value: Value; seconds: number }> {
  const startedAt = Date.now();
  const value = await action();
  return { value, seconds: Math.round((Date.now() - startedAt) / 100) / 10 };
}
