import { test } from "node:test";
import { modalUser } from "../../helpers/modal-user.ts";
test("probe", async () => {
  await using modal = await modalUser({ faults: { gpuQueueMs: 1500 } });
  for (const name of ["one", "two"]) {
    const from = modal.emulator.calls.length;
    await modal.run(["--gpu", "A10", "-s", name, "-p", "hello"]);
    console.log(modal.emulator.calls.slice(from).map((c) => c.method + " " + (c.sandboxId ? (modal.emulator.sandboxes().find((s) => s.id === c.sandboxId)?.tags["role"] ?? "") : "")).join("\n"), "\n-----");
  }
});
