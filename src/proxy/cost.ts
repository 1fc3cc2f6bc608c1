/** What an answer costs, and what a request can cost at most. Money is whole nano-dollars, so that sums are exact. */
import { type Price, webSearchPrice } from "./prices.ts";

/** What one answer used. */
export interface Usage {
  /** not from the cache */
  inputTokens: number;
  /** thinking is among them */
  outputTokens: number;
  cacheReadTokens: number;
  /** both kinds */
  cacheWriteTokens: number;
  /** those of them that are kept for an hour */
  cacheWriteHourTokens: number;
  webSearches: number;
}

export const noUsage: Readonly<Usage> = {
  inputTokens: 0,
  outputTokens: 0,
  cacheReadTokens: 0,
  cacheWriteTokens: 0,
  cacheWriteHourTokens: 0,
  webSearches: 0,
};

/** What a request may use at most. */
export interface Reservation {
  /** as the request names it */
  model: string;
  /** estimated from the body: see {@link estimateOf} */
  inputTokens: number;
  outputTokens: number;
  webSearches: number;
  /** what the input costs at most, in nano-dollars */
  inputNanoUsd: number;
  /** what all of it costs at most, in nano-dollars */
  nanoUsd: number;
}

const nano = 1e9;
/** US dollars a million tokens, as nano-dollars a token */
const perToken = nano / 1e6;

/** In nano-dollars. */
export function costOf(usage: Usage, price: Price): number {
  const { inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens, webSearches } = usage;
  const cacheWriteHourTokens = Math.min(usage.cacheWriteHourTokens, cacheWriteTokens);
  const all = inputTokens + cacheReadTokens + cacheWriteTokens;
  const rate = price.longInput && all > price.longInput.above ? price.longInput : price;
  const tokens =
    inputTokens * rate.input +
    outputTokens * rate.output +
    cacheReadTokens * rate.cacheRead +
    (cacheWriteTokens - cacheWriteHourTokens) * rate.cacheWrite +
    cacheWriteHourTokens * rate.cacheWriteHour;
  return Math.ceil(tokens * perToken + webSearches * webSearchPrice * nano - 1e-6);
}

/** `textBytes` at three bytes a token, and a fixed count for each image: the API counts by pixels, never more than this. */
export const bytesPerToken = 3;
export const tokensPerImage = 5_000;

/** The dearest that the request can become; `cache` is the dearest way in which it asks to be kept. */
export function reservationOf(
  request: { model: string; inputTokens: number; outputTokens: number; webSearches: number; cache: "no" | "5m" | "1h" },
  price: Price,
): Reservation {
  const { model, inputTokens, outputTokens, webSearches, cache } = request;
  const input = {
    ...noUsage,
    inputTokens: cache === "no" ? inputTokens : 0,
    cacheWriteTokens: cache === "no" ? 0 : inputTokens,
    cacheWriteHourTokens: cache === "1h" ? inputTokens : 0,
  };
  return {
    model,
    inputTokens,
    outputTokens,
    webSearches,
    inputNanoUsd: costOf(input, price),
    nanoUsd: costOf({ ...input, outputTokens, webSearches }, price),
  };
}

export function usdOf(nanoUsd: number): number {
  return nanoUsd / nano;
}

export function nanoUsdOf(usd: number): number {
  return Math.round(usd * nano);
}
