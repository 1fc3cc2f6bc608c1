import { whyNot } from "../modal-emulator/emulator.ts";
import { openScene } from "../sandbox/modal/open-modal.ts";
import { describeProvider } from "./sandbox-provider.ts";

const root =
  "a sandbox at Modal is its root's: it can change its own copy of every file, and has no limits but its machine's";

describeProvider(
  "modal",
  async () => {
    const scene = await openScene();
    const { provider } = scene;
    const dispose = () => scene[Symbol.asyncDispose]();
    return new Proxy(provider, {
      get(target, key) {
        if (key === Symbol.asyncDispose) return dispose;
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  },
  {
    whyNot,
    exceptions: {
      "files are there, read-only": root,
      "processes beyond the limit cannot be made": root,
      "a file beyond the limit cannot be written": root,
      "a process that takes the sandbox over its memory is ended, the sandbox goes on":
        "Modal ends the whole sandbox that takes too much memory",
    },
  },
);
