/** A syncer that looks and finds nothing new. */
import { setTimeout as delay } from "node:timers/promises";
import { type Figures, figure } from "../measure.ts";
import type { OurProject, Setting } from "./setting.ts";

const intervalMs = 200;
const polls = 60;

/** `project`: one that has been sent. */
export async function idle({ receiver }: Setting, project: OurProject): Promise<Figures> {
  await using syncer = await project.start(intervalMs);
  await syncer.until(({ syncedAt }) => syncedAt !== null);
  // a few looks pass before: the first ones are slower than those that come for days
  await delay(10 * intervalMs);
  receiver.front.take();
  const [started, before] = [performance.now(), syncer.processorMs()];
  await delay(polls * intervalMs);
  const spent = syncer.processorMs() - before;
  // a look takes a little longer than its interval, so this is not too many
  const looks = (performance.now() - started) / intervalMs;
  const { bytes, requests } = receiver.front.take();
  return {
    "idle poll, processor": figure(spent / looks, "ms", 1),
    "idle polls, requests": figure(requests, "", 0),
    "idle polls, sent": figure(bytes, "B", 0),
  };
}
