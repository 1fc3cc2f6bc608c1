/** The upstream for requests a second: nginx that answers at once, so that it takes as little of the core as can be. */

import { messageAnswer } from "../message.ts";
import { startNginx } from "../nginx.ts";
import { freePort, untilListening } from "../processes.ts";

export interface Upstream extends AsyncDisposable {
  origin: string;
}

export async function startAnswering(folder: string): Promise<Upstream> {
  const port = await freePort();
  const child = await startNginx(
    "upstream",
    folder,
    "rest",
    `  server {
    listen 127.0.0.1:${port};
    default_type application/json;
    return 200 '${messageAnswer()}';
  }`,
  );
  await untilListening(child, port);
  return { origin: `http://127.0.0.1:${port}`, [Symbol.asyncDispose]: () => child[Symbol.asyncDispose]() };
}
