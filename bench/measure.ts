/** Figures, and how two sides are compared: in turns, so that both meet the same machine. */

export interface Figure {
  value: number;
  unit: string;
  /** null when there is none */
  goal: number | null;
  /** what the goal is to `value`: not to be exceeded, or to be reached; null without a goal */
  bound: Bound | null;
  holds: boolean | null;
}

export type Bound = "ceiling" | "floor";

export type Figures = Record<string, Figure>;

/** A figure with or without a goal, rounded to two decimals. */
export function figure(value: number, unit: string, goal: number | null = null, bound: Bound = "ceiling"): Figure {
  const rounded = Math.round(value * 100) / 100;
  if (goal === null) return { value: rounded, unit, goal, bound: null, holds: null };
  return { value: rounded, unit, goal, bound, holds: bound === "ceiling" ? rounded <= goal : rounded >= goal };
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const [low = 0, high = 0] = sorted.length % 2 === 1 ? [sorted[middle], sorted[middle]] : sorted.slice(middle - 1);
  return (low + high) / 2;
}

/** Runs both sides `rounds` times in alternation, after one round that does not count; the values of each. */
export async function alternate<A, B>(
  rounds: number,
  a: () => Promise<A>,
  b: () => Promise<B>,
): Promise<{ a: A[]; b: B[] }> {
  const values: { a: A[]; b: B[] } = { a: [], b: [] };
  for (let round = 0; round <= rounds; round += 1) {
    const isCounted = round > 0;
    const [first, second] = [await a(), await b()];
    if (isCounted) {
      values.a.push(first);
      values.b.push(second);
    }
  }
  return values;
}
