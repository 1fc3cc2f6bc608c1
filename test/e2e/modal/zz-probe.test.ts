import { test } from "node:test";
import { modalSession } from "../../helpers/modal-session.ts";
import { modalUser } from "../../helpers/modal-user.ts";
test("probe", async () => {
  await using modal = await modalUser();
  await using session = modalSession(modal, ["--gpu", "A10", "-s", "streams"]);
  await session.turn("hello");
  for (const n of [1, 2, 3]) {
    modal.emulator.faults.routerTokenExpires = n;
    const from = modal.emulator.calls.length;
    const timer = setTimeout(() => console.log(n, "HANG", modal.emulator.calls.slice(from).map((c) => `${c.method} ${c.status}`), session.talk.stderr()), 10000);
    console.log(n, JSON.stringify(await session.turn("!slow 5 50")), modal.emulator.faults.routerTokenExpires);
    clearTimeout(timer);
    console.log(modal.emulator.calls.slice(from).filter((c) => c.status === "UNAUTHENTICATED").map((c) => c.method));
  }
});
