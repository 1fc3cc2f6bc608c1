/** How many tokens a request's input can be, from its body alone. */
import { bytesPerToken, tokensPerImage } from "./cost.ts";

/** searches that a request may make when it does not say how many */
const searchesUnsaid = 20;

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

/** How many web searches these tools can make on the server. */
export function webSearchesOf(tools: readonly { type?: unknown; max_uses?: unknown }[]): number {
  return tools
    .filter((tool) => String(tool.type).startsWith("web_search"))
    .reduce((sum, { max_uses: most }) => sum + (Number.isSafeInteger(most) ? Number(most) : searchesUnsaid), 0);
}
