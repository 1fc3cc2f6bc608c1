import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import type { Sandbox } from "modal";
import { liveApp } from "./account.ts";
import { type Backend, backends, type Cloud } from "./cloud.ts";
import { outcomeOf, question } from "./question.ts";
import { liveTag } from "./sweep.ts";

question(4, async ({ cloud, answer }) => {
  const mark = randomBytes(4).toString("hex");
  const tags = { mark };
  const made: Partial<Record<Backend, Sandbox>> = {};
  for (const backend of backends) made[backend] = await cloud.make(backend, { tags, name: `${mark}-${backend}` });
  const ids = Object.values(made).map(({ sandboxId }) => sandboxId);
  const both = await listed(cloud, "v2", mark);
  answer(
    `SandboxListV2 by tag has ${describe(both, made)}; SandboxList has ${describe(await listed(cloud, "v1", mark), made)}`,
  );
  const twin = await outcomeOf(async () => {
    const other = await cloud.make("v2", { tags, name: `${mark}-v1` });
    return `made as ${other.sandboxId}`;
  });
  answer(`a name of V1 that V2 is to have too: ${twin}`);
  for (const backend of backends) {
    const { client } = cloud.account();
    const found = await client.sandboxes.fromName(liveApp, `${mark}-${backend}`);
    answer(`tags of ${backend}: ${JSON.stringify(await (made[backend] as Sandbox).getTags())}`);
    assert.equal((await found.getTags())["mark"], mark);
    assert.equal((await found.getTags())[liveTag], "1");
  }
  assert.deepEqual(
    ids.filter((id) => !both.includes(id)),
    [],
    "the list that gc and ls rest on has both backends",
  );
});

async function listed(cloud: Cloud, backend: Backend, mark: string): Promise<string[]> {
  const { client, app } = cloud.account();
  const request = { appId: (await app()).appId, tags: [{ tagName: "mark", tagValue: mark }] };
  const { sandboxes } =
    backend === "v2" ? await client.cpClient.sandboxListV2(request) : await client.cpClient.sandboxList(request);
  return sandboxes.map(({ id }) => id);
}

function describe(ids: readonly string[], made: Partial<Record<Backend, Sandbox>>): string {
  const found = backends.filter((backend) => ids.includes(made[backend]?.sandboxId ?? ""));
  return found.length === 0 ? "neither" : found.join(" and ");
}
