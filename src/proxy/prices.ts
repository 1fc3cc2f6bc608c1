/**
 * What a token costs, in US dollars a million. As of 2026-11-24; source: the model catalog in the claude program of the
 * Claude Agent SDK 0.3.330.
 */

/** US dollars a million tokens. */
export interface Price {
  input: number;
  output: number;
  cacheRead: number;
  /** kept for five minutes */
  cacheWrite: number;
  /** kept for an hour */
  cacheWriteHour: number;
  /** when a request's input has more tokens than `above`, all of it costs this */
  longInput?: { above: number } & Omit<Price, "longInput">;
}

/** Prices of the cache follow from the input's: a quarter more to write, twice for an hour, a tenth to read. */
function price(input: number, output: number, cacheRead = input / 10): Price {
  return { input, output, cacheRead, cacheWrite: input * 1.25, cacheWriteHour: input * 2 };
}

const haiku55: Price = { ...price(0.1, 0.5), longInput: { above: 100_000, ...price(0.5, 2.5) } };

const table: Readonly<Record<string, Price>> = {
  "claude-3-haiku": price(0.25, 1.25, 0.03),
  "claude-3-opus": price(15, 75),
  "claude-3-5-haiku": price(0.8, 4),
  "claude-3-5-sonnet": price(3, 15),
  "claude-3-7-sonnet": price(3, 15),
  "claude-haiku-4-5": price(1, 5),
  "claude-haiku-5-5": haiku55,
  "claude-sonnet-4": price(3, 15),
  "claude-sonnet-4-5": price(3, 15),
  "claude-sonnet-4-6": price(3, 15),
  "claude-sonnet-5": price(2, 10),
  "claude-sonnet-5-5": price(2, 10, 0.1),
  "claude-opus-4": price(15, 75),
  "claude-opus-4-1": price(15, 75),
  "claude-opus-4-5": price(5, 25),
  "claude-opus-4-6": price(5, 25),
  "claude-opus-4-7": price(5, 25),
  "claude-opus-4-8": price(5, 25),
  "claude-opus-5": price(5, 25),
  "claude-opus-5-5": price(4, 20, 0.2),
  "claude-fable-5": price(10, 50),
  "claude-fable-5-1": price(10, 50, 0.25),
  "claude-fable-5-2": price(8, 40, 0.2),
  "claude-mythos-5": price(10, 50),
  "claude-mythos-5-1": price(10, 50, 0.25),
  "claude-mythos-5-2": price(8, 40, 0.2),
};

/** US dollars for one search of the server's own web search. */
export const webSearchPrice = 0.01;

export class Prices {
  readonly #prices: ReadonlyMap<string, Price>;
  readonly #dearest: Price;

  /** `overrides`: prices by model id, before those of the table. */
  constructor(overrides: Readonly<Record<string, Price>> = {}) {
    this.#prices = new Map([...Object.entries(table), ...Object.entries(overrides)]);
    this.#dearest = dearestOf([...this.#prices.values()]);
  }

  /** A dated or "latest" id counts as its model. An unknown model costs what the dearest does. */
  of(model: string): { price: Price; isKnown: boolean } {
    const id = model.replace(/\[1m\]$/, "");
    const known = this.#prices.get(id) ?? this.#prices.get(id.replace(/-(?:20\d{6}|latest|0)$/, ""));
    return { price: known ?? this.#dearest, isKnown: known !== undefined };
  }

  /**
   * The least that `cost` makes of a price of the model's family: claude asks for a newer model in place of a retired one, and an
   * alias such as "opus" may be any. All models count for one without a family, and when `model` is undefined.
   */
  leastOf(model: string | undefined, cost: (price: Price) => number): number {
    const all = [...this.#prices];
    // "opusplan" is no alias of one family: claude plans with one and works with another
    const family = /^(?:claude-.*)?(opus|sonnet|haiku|fable|mythos)(?![a-z])/.exec(model ?? "")?.[1] ?? "";
    const related = all.filter(([id]) => id === model || (family !== "" && id.includes(family)));
    return Math.min(...(related.length > 0 ? related : all).map(([, price]) => cost(price)));
  }
}

function dearestOf(prices: readonly Price[]): Price {
  const most = (field: keyof Omit<Price, "longInput">) => Math.max(...prices.map((known) => known[field]));
  return {
    input: most("input"),
    output: most("output"),
    cacheRead: most("cacheRead"),
    cacheWrite: most("cacheWrite"),
    cacheWriteHour: most("cacheWriteHour"),
  };
}
