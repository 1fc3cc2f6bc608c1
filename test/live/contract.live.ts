import { describeProvider } from "../contract/sandbox-provider.ts";
import { openGuardedProvider } from "./guarded-provider.ts";

const root =
  "a sandbox at Modal is its root's: it can change its own copy of every file, and has no limits but its machine's";

describeProvider("modal live", openGuardedProvider, {
  exceptions: {
    "files are there, read-only": root,
    "processes beyond the limit cannot be made": root,
    "a file beyond the limit cannot be written": root,
    "a process that takes the sandbox over its memory is ended, the sandbox goes on":
      "Modal ends the whole sandbox that takes too much memory",
  },
});
