import type { Figures } from "../measure.ts";
import { benchModalStart } from "./start.ts";

/** The provider "modal" against the emulator; needs root. */
export async function benchModal(): Promise<Figures> {
  return { ...(await benchModalStart()) };
}
