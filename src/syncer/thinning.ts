/** A curve in bounded memory: however many points it gets, its extremes, its gaps and its end stay. */

/** y is null where the value was no finite number */
export type CurvePoint = [x: number, y: number | null];

interface Bucket {
  /** where the bucket's first point was; a gap when it had no number */
  x: number;
  least: [number, number] | undefined;
  most: [number, number] | undefined;
}

export class Thinned {
  readonly #most: number;
  /** of x, always a power of two, so that two neighbours become one */
  #width = 1;
  #buckets = new Map<number, Bucket>();
  #end: [number, number] | undefined;

  /** It keeps the extremes of at least `columns` parts of the curve, and of at most twice as many. */
  constructor(columns: number) {
    this.#most = columns * 2;
  }

  add(x: number, y: number | null): void {
    const point: [number, number] | undefined = y === null ? undefined : [x, y];
    this.#put(this.#buckets, { x, least: point, most: point });
    if (point && (!this.#end || x >= this.#end[0])) this.#end = point;
    while (this.#buckets.size > this.#most) this.#widen();
  }

  /** By x. */
  points(): CurvePoint[] {
    const found: CurvePoint[] = [];
    for (const { x, least, most } of this.#buckets.values()) {
      if (!least || !most) found.push([x, null]);
      else if (least[1] === most[1]) found.push(least);
      else found.push(least, most);
    }
    const end = this.#end;
    if (end && !found.some(([x, y]) => x === end[0] && y === end[1])) found.push(end);
    return found.sort(([one], [other]) => one - other);
  }

  #put(buckets: Map<number, Bucket>, added: Bucket): void {
    const place = Math.floor(added.x / this.#width);
    const bucket = buckets.get(place);
    if (!bucket) {
      buckets.set(place, added);
      return;
    }
    const { least, most } = added;
    if (least && (!bucket.least || least[1] < bucket.least[1])) bucket.least = least;
    if (most && (!bucket.most || most[1] > bucket.most[1])) bucket.most = most;
  }

  #widen(): void {
    this.#width *= 2;
    const wider = new Map<number, Bucket>();
    for (const bucket of this.#buckets.values()) this.#put(wider, bucket);
    this.#buckets = wider;
  }
}
