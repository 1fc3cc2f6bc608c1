/** Limits that hold: what a request may use at most is set aside before it is sent, so that none can overspend together. */
import { costOf, nanoUsdOf, type Reservation, type Usage, usdOf } from "./cost.ts";
import type { Grant, Limits } from "./grant.ts";
import type { Hold, Ledger } from "./ledger.ts";
import type { Prices } from "./prices.ts";
import type { Refusal } from "./refusal.ts";

/** Per cent of a limit at which the host and the agent are told. */
const levels = [80, 90, 95, 100] as const;

/** An account has used this much of one of its limits. */
export interface BudgetNotice {
  account: string;
  limit: "usd" | "inputTokens" | "outputTokens";
  /** the level that was passed: 80, 90, 95 or 100 */
  percent: number;
  used: number;
  of: number;
}

interface Share {
  limit: BudgetNotice["limit"];
  used: number;
  /** of requests that run */
  reserved: number;
  of: number;
}

export class Budget {
  readonly #ledger: Ledger;
  readonly #prices: Prices;
  readonly #onNotice: (notice: BudgetNotice) => void;
  /** the level that was told of last, by account and limit */
  readonly #told = new Map<string, number>();

  constructor(ledger: Ledger, prices: Prices, onNotice: (notice: BudgetNotice) => void) {
    this.#ledger = ledger;
    this.#prices = prices;
    this.#onNotice = onNotice;
  }

  /** undefined when the account can pay for all that the request could use. */
  refusalOf(grant: Grant, reservation: Reservation): Refusal | undefined {
    const asked = {
      usd: usdOf(reservation.nanoUsd),
      inputTokens: reservation.inputTokens,
      outputTokens: reservation.outputTokens,
    };
    const short = this.#shares(grant).find(({ limit, used, reserved, of }) => used + reserved + asked[limit] > of);
    if (!short) return undefined;
    const { limit, used, reserved, of } = short;
    const left = Math.max(0, of - used - reserved);
    const message =
      `this request could use up to ${amount(limit, asked[limit])} and ${amount(limit, left)} is left ` +
      `of ${amount(limit, of)}${reserved > 0 ? " beside what runs now" : ""}; a smaller max_tokens needs less, and only the user can raise the limit`;
    return { reason: "budget_exceeded", message };
  }

  /** Counts the answer; `sent` is false when it cost nothing, such as an error of the API. Returns nano-dollars. */
  settle(grant: Grant, hold: Hold, usage: Usage, model: string | null): number {
    const nanoUsd = costOf(usage, this.#prices.of(model ?? hold.reservation.model).price);
    this.#ledger.settle(hold, usage, nanoUsd);
    this.#tell(grant);
    return nanoUsd;
  }

  costOf(usage: Usage, model: string): number {
    return costOf(usage, this.#prices.of(model).price);
  }

  /** The fullest limit for an answer's header, e.g. "83% of $5.00"; undefined below the first level. */
  headerOf(grant: Grant): string | undefined {
    const [fullest] = this.#shares(grant).sort((one, other) => other.used / other.of - one.used / one.of);
    const percent = fullest && fullest.of > 0 ? Math.floor((100 * fullest.used) / fullest.of) : 0;
    return fullest && percent >= levels[0] ? `${percent}% of ${amount(fullest.limit, fullest.of)}` : undefined;
  }

  #tell(grant: Grant): void {
    for (const { limit, used, of } of this.#shares(grant)) {
      const percent = of > 0 ? (100 * used) / of : 100;
      const level = levels.findLast((candidate) => percent >= candidate) ?? 0;
      const key = `${grant.account} ${limit} ${of}`;
      if (level <= (this.#told.get(key) ?? 0)) continue;
      this.#told.set(key, level);
      this.#onNotice({ account: grant.account, limit, percent: level, used, of });
    }
  }

  #shares({ account, limits }: { account: string; limits: Limits }): Share[] {
    const spending = this.#ledger.spendingOf(account);
    const reserved = this.#ledger.reservedOf(account);
    const { usd, inputTokens, outputTokens } = limits;
    const shares: (Share | undefined)[] = [
      usd === undefined
        ? undefined
        : { limit: "usd", used: usdOf(spending.nanoUsd), reserved: usdOf(reserved.nanoUsd), of: usdOf(nanoUsdOf(usd)) },
      inputTokens === undefined
        ? undefined
        : { limit: "inputTokens", used: spending.inputTokens, reserved: reserved.inputTokens, of: inputTokens },
      outputTokens === undefined
        ? undefined
        : { limit: "outputTokens", used: spending.outputTokens, reserved: reserved.outputTokens, of: outputTokens },
    ];
    return shares.filter((share) => share !== undefined);
  }
}

function amount(limit: BudgetNotice["limit"], value: number): string {
  if (limit === "usd") return `$${value.toFixed(value > 0 && value < 0.1 ? 4 : 2)}`;
  return `${value} ${limit === "inputTokens" ? "input" : "output"} tokens`;
}
