import type { Figures } from "../measure.ts";
import { benchPull } from "./pull.ts";
import { benchModalStart } from "./start.ts";

/** The provider "modal" against the emulator, which needs root; and files out of a sandbox, on both providers. */
export async function benchModal(): Promise<Figures> {
  return { ...(await benchModalStart()), ...(await benchPull()) };
}
