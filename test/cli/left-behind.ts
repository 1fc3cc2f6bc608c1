/** A provider whose sandboxes look as if their maker had left them: real ones of the local provider, without an owner. */
import type { Provider, SandboxRecord } from "../../src/sandbox/provider.ts";

export interface LeftBehind {
  provider: Provider;
  /** what `list` throws from now on */
  breakWith(error: Error): void;
}

/** `change` is given each record before it is listed. */
export function leftBehind(local: Provider, change: (record: SandboxRecord) => void = () => {}): LeftBehind {
  let broken: Error | undefined;
  const list: Provider["list"] = async (tags) => {
    if (broken) throw broken;
    return (await local.list(tags)).map(({ ownerPid, ...record }) => {
      change(record);
      return record;
    });
  };
  const provider = new Proxy(local, {
    get(target, name) {
      if (name === "list") return list;
      if (name === "capabilities") return { ...target.capabilities, detach: true };
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  return {
    provider,
    breakWith: (error) => {
      broken = error;
    },
  };
}
