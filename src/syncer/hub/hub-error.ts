import { exitCodes, ModalSbError } from "../../errors.ts";

const tokenHint =
  "make one with the right to write, at https://huggingface.co/settings/tokens, and give it as HF_TOKEN";

/** Hugging Face refused something, or could not be reached. */
export class HubError extends ModalSbError {
  /** of the answer; undefined: there was none */
  readonly status: number | undefined;

  constructor(message: string, { status, hint }: { status?: number | undefined; hint?: string | undefined } = {}) {
    super(message, exitCodes.upstream, hint === undefined ? {} : { hint });
    this.status = status;
  }

  /** True when the same may succeed later. */
  get isTemporary(): boolean {
    return this.status === undefined || this.status === 429 || this.status >= 500 || isConflict(this);
  }

  /** `what` ends the sentence "The token may not …"; `words` are the Hub's own. */
  static of(what: string, status: number | undefined, words: string): HubError {
    const said = words === "" ? "" : `: ${words}`;
    switch (status) {
      case undefined:
        return new HubError(`Hugging Face cannot be reached${said}`);
      case 401:
        return new HubError(`Hugging Face does not accept the token${said}`, { status, hint: tokenHint });
      case 402:
        return new HubError(`Hugging Face wants a paid plan to ${what}${said}`, {
          status,
          hint: "see https://huggingface.co/pricing, or name a Space that is there",
        });
      case 403:
        return new HubError(`The token may not ${what}${said}`, { status, hint: tokenHint });
      default:
        if (status >= 300 && status < 400) {
          const hint = "it was renamed or moved; name it as it is called now";
          return new HubError(`Hugging Face answered with a redirect, which is not followed (${what})`, {
            status,
            hint,
          });
        }
        return new HubError(`Hugging Face answered ${status}${said} (${what})`, { status });
    }
  }
}

/** Hugging Face makes one repository of a user at a time (huggingface_hub, create_repo). */
export function isConflict(error: unknown): boolean {
  return error instanceof HubError && error.status === 409 && /another conflicting operation/i.test(error.message);
}
