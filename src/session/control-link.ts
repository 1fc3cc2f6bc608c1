/** The host's end of a trusted role's control socket (`control-server.ts`). */
import { SandboxError } from "../errors.ts";
import type { Line } from "../protocol/json-lines.ts";
import type { Sandbox } from "../sandbox/provider.ts";
import { lastWords } from "./last-words.ts";
import { type LineLink, openLineLink } from "./line-link.ts";

const maxLineBytes = 64 * 1024;
/** over a network an answer may never come */
const answerMs = 30_000;

type Fields = Record<string, unknown>;

/** One request; rejects with the role's words when it refuses, and when it has ended. */
export type Control = (request: { op: string; [field: string]: unknown }) => Promise<Fields>;

export interface ControlLink {
  control: Control;
  /** Ends the connection, and not the role. */
  close(): void;
}

/**
 * Connects as soon as the role listens. `what` names the role to the user. Without the socket the
 * role is ended. `reopen`, where a network is between: the link is opened again when it breaks, and this is asked first.
 */
export async function openControlLink(
  sandbox: Sandbox,
  socketPath: string,
  what: string,
  onEvent: (event: Fields) => void,
  reopen?: { request: { op: string; [field: string]: unknown } },
): Promise<ControlLink> {
  const waiting = new Map<number, { resolve: (answer: Fields) => void; reject: (error: Error) => void }>();
  let nextId = 1;
  let failure: Error | undefined;
  let isClosed = false;
  let isLost = false;
  const lost = () => new SandboxError(`The connection to the ${what} was lost`);
  const fail = (error: Error) => {
    for (const waiter of waiting.values()) waiter.reject(error);
    waiting.clear();
  };
  const reopening = reopen && {
    onChange: (isBack: boolean) => {
      isLost = !isBack;
      if (isLost) fail(lost());
    },
    greet: (send: (message: unknown) => void) => send({ id: 0, ...reopen.request }),
  };
  const take = (line: Line) => {
    if (!("text" in line)) return;
    const answer = answerIn(line.text);
    if (!answer) return;
    if (answer.event !== undefined) {
      onEvent(answer as unknown as Fields);
      return;
    }
    const waiter = waiting.get(answer.id);
    waiting.delete(answer.id);
    if (answer.ok) waiter?.resolve(answer as unknown as Fields);
    else waiter?.reject(new SandboxError(`The ${what} refused: ${answer.error}`));
  };
  const link: LineLink = await openLineLink(sandbox, socketPath, maxLineBytes, take, reopening);
  void link.ended.then(async () => {
    if (isClosed) return;
    await sandbox.terminate();
    const words = lastWords(await sandbox.exited);
    failure = new SandboxError(`The ${what} ended${words ? `: ${words}` : ""}`);
    fail(failure);
  });
  return {
    control: (request) =>
      new Promise((resolve, reject) => {
        if (failure) throw failure;
        if (isLost) throw lost();
        const id = nextId++;
        waiting.set(id, { resolve, reject });
        link.send({ id, ...request });
        if (reopen) setTimeout(() => reject(lost()), answerMs).unref();
      }),
    close: () => {
      isClosed = true;
      link.close();
    },
  };
}

interface Answer {
  id: number;
  ok: boolean;
  error?: string;
  event?: string;
}

/** undefined for a line that is none: one that was taken over is not believed blindly. */
function answerIn(text: string): Answer | undefined {
  try {
    const answer: unknown = JSON.parse(text);
    return typeof answer === "object" && answer !== null ? (answer as Answer) : undefined;
  } catch {
    return undefined;
  }
}
