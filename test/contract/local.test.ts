import { createProvider } from "../../src/sandbox/sandbox.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { describeProvider } from "./sandbox-provider.ts";

describeProvider("local", async () => {
  const folder = await temporaryFolder();
  const provider = await createProvider("local", { stateFolder: folder.path, hostEnvironment: process.env });
  return Object.assign(provider, {
    [Symbol.asyncDispose]: async () => {
      await Promise.all((await provider.list()).map(async (record) => (await provider.find(record.name))?.terminate()));
      await folder[Symbol.asyncDispose]();
    },
  });
});
