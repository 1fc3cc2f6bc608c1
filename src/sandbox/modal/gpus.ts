/** The names by which Modal knows GPUs. Source: modal.com/docs/guide/gpu and the guide on sandboxes' resources, August 2026. */
import { UsageError } from "../../errors.ts";

/** most of one kind in a machine */
const mostOf = new Map<string, number>([
  ...["T4", "L4", "L40S", "A100", "A100-40GB", "A100-80GB", "RTX-PRO-6000"].map((name) => [name, 8] as const),
  ...["H100", "H100!", "H200", "B200", "B200+", "B300"].map((name) => [name, 8] as const),
  ["A10", 4],
]);

/** The names as Modal wants them. A UsageError names the nearest one. */
export function checkedGpus(gpus: readonly string[]): string[] {
  return gpus.map(checkedGpu);
}

function checkedGpu(text: string): string {
  const [name = "", count, ...rest] = text.trim().toUpperCase().split(":");
  const most = mostOf.get(name);
  if (most === undefined || rest.length > 0) {
    throw new UsageError(`Modal has no GPU "${text}"`, { hint: suggestion(name) });
  }
  if (count === undefined) return name;
  if (!/^[1-9]$/.test(count) || Number(count) > most) {
    throw new UsageError(`A machine of Modal has 1 to ${most} of ${name}, not "${count}"`, { hint: `${name}:${most}` });
  }
  return count === "1" ? name : `${name}:${count}`;
}

function suggestion(name: string): string {
  const isBegun = (known: string) => name.startsWith(known);
  const near = [...mostOf.keys()]
    .map((known) => ({ known, distance: distanceOf(known, name) }))
    .sort(
      (one, other) => one.distance - other.distance || Number(isBegun(other.known)) - Number(isBegun(one.known)),
    )[0];
  const all = `there are ${[...mostOf.keys()].join(", ")}, each also with a count such as H100:2`;
  return near && near.distance <= 2 ? `did you mean ${near.known}? ${all}` : all;
}

/** How many letters must change (Levenshtein). */
function distanceOf(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let i = 1; i <= one.length; i++) {
    const next = [i];
    for (let j = 1; j <= other.length; j++) {
      const changed = (row[j - 1] as number) + (one[i - 1] === other[j - 1] ? 0 : 1);
      next[j] = Math.min(changed, (row[j] as number) + 1, (next[j - 1] as number) + 1);
    }
    row = next;
  }
  return row[other.length] as number;
}
