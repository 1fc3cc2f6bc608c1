/** How many tokens a request's input can be, from its body alone. */
import { bytesPerToken, tokensPerImage } from "./cost.ts";

/** searches that a request may make when it does not say how many */
const searchesUnsaid = 20;
/** more than one request can make: with it, sums stay exact */
const mostSearches = 10_000;

/** Text by its bytes; an image, which is far longer in base64 than it counts, by a fixed number. */
export function inputTokensOf(bytes: Buffer, fields: Readonly<Record<string, unknown>>): number {
  const images = { count: 0, bytes: 0 };
  const { messages } = fields;
  for (const message of Array.isArray(messages) ? messages : []) findImages(message, images);
  return Math.ceil((bytes.length - images.bytes) / bytesPerToken) + images.count * tokensPerImage;
}

function findImages(holder: unknown, images: { count: number; bytes: number }): void {
  const { content } = (holder ?? {}) as { content?: unknown };
  if (!Array.isArray(content)) return;
  for (const block of content as { type?: unknown; source?: { data?: unknown } }[]) {
    const data = block?.type === "image" ? block.source?.data : undefined;
    if (typeof data === "string") {
      images.count += 1;
      images.bytes += data.length;
    }
    findImages(block, images);
  }
}

/** How many web searches these tools can make on the server. A tool can say how many, and not that it gives some back. */
export function webSearchesOf(tools: readonly { type?: unknown; max_uses?: unknown }[]): number {
  const said = (most: unknown) => Number.isSafeInteger(most) && Number(most) >= 0;
  return tools
    .filter((tool) => String(tool.type).startsWith("web_search"))
    .reduce((sum, { max_uses: most }) => sum + (said(most) ? Math.min(Number(most), mostSearches) : searchesUnsaid), 0);
}

/** What the request wants kept, and for how long. JSON can write a letter as an escape: then its meaning is looked at. */
export function cacheOf(bytes: Buffer, fields: Readonly<Record<string, unknown>>): "no" | "5m" | "1h" {
  const plain = bytes.includes("\\u00") ? JSON.stringify(fields) : bytes;
  if (!plain.includes("cache_control")) return "no";
  return plain.includes('"1h"') ? "1h" : "5m";
}
