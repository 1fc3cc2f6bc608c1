/** How long a message may be, judged by what travels: its bytes in a line of the protocol, after JSON's escapes. */
import { UsageError } from "../errors.ts";
import { maxEnvelopeBytes, maxHostLineBytes, maxMessageBytes } from "../protocol/limits.ts";

/** by which the end of a turn says that its message was too long */
export const tooLongReason = "message_too_long";
export const tooLongHint =
  "put the text in a file, copy it into the sandbox (modal-sb push), and name it in the message";
const separator = "\n\n";

/** Why a message cannot be sent; undefined when it can. */
export function tooLong(message: string): UsageError | undefined {
  // a string of hundreds of megabytes is not even encoded
  if (message.length <= maxMessageBytes && jsonBytes(message) <= maxMessageBytes) return undefined;
  return new UsageError(`The message is too long: as JSON it has more than ${maxMessageBytes} bytes`, {
    hint: tooLongHint,
  });
}

/** The message behind the notes that fit into its line; these are taken out of `notes`, and the others wait. */
export function withNotes(notes: string[], message: string): string {
  let room = maxHostLineBytes - maxEnvelopeBytes - jsonBytes(message);
  let count = 0;
  for (const note of notes) {
    room -= jsonBytes(note + separator);
    if (room < 0) break;
    count += 1;
  }
  return [...notes.splice(0, count), message].join(separator);
}

function jsonBytes(text: string): number {
  return Buffer.byteLength(JSON.stringify(text));
}
