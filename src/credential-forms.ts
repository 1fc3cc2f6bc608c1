/** Shorter values would be found everywhere; no credential of the field is shorter. */
export const minCredentialLength = 8;

/**
 * Every form in which `credential` is looked for: as it is, JSON-escaped, URL-encoded, hex, and base64 (both alphabets)
 * wherever it may stand in a longer base64 text.
 */
export function credentialForms(credential: string): string[] {
  const bytes = Buffer.from(credential);
  const forms = [
    credential,
    JSON.stringify(credential).slice(1, -1),
    encodeURIComponent(credential),
    bytes.toString("hex"),
    bytes.toString("hex").toUpperCase(),
    ...[0, 1, 2].flatMap((offset) => base64At(bytes, offset)),
  ];
  return [...new Set(forms)];
}

/** The characters that encode `bytes` alone when `offset` other bytes stand before them in a group of three. */
function base64At(bytes: Buffer, offset: number): string[] {
  const encoded = Buffer.concat([Buffer.alloc(offset), bytes])
    .toString("base64")
    .replaceAll("=", "");
  const first = Math.ceil((offset * 8) / 6);
  const last = Math.floor(((offset + bytes.length) * 8) / 6);
  const certain = encoded.slice(first, last);
  return [certain, certain.replaceAll("+", "-").replaceAll("/", "_")];
}
