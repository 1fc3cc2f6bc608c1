/** How long a message may be, judged by what travels: its bytes in a line of the protocol, after JSON's escapes. */
import { UsageError } from "../errors.ts";
import { maxHostLineBytes, maxMessageBytes } from "../protocol/limits.ts";

/** for a line's ids and punctuation */
const envelopeBytes = 512;
const separator = "\n\n";

/** Why a message cannot be sent; undefined when it can. */
export function tooLong(message: string): UsageError | undefined {
  // a string of hundreds of megabytes is not even encoded
  if (message.length <= maxMessageBytes && jsonBytes(message) <= maxMessageBytes) return undefined;
  return new UsageError(`The message is too long: as JSON it has more than ${maxMessageBytes} bytes`, {
    hint: "put the text in a file, copy it into the sandbox (modal-sb push), and name it in the message",
  });
}

/** The message behind the notes that fit into its line; these are taken out of `notes`, and the others wait. */
export function withNotes(notes: string[], message: string): string {
  let room = maxHostLineBytes - envelopeBytes - jsonBytes(message);
  const isTooMuch = (note: string) => {
    room -= jsonBytes(note + separator);
    return room < 0;
  };
  const firstThatWaits = notes.findIndex(isTooMuch);
  const fitting = notes.splice(0, firstThatWaits === -1 ? notes.length : firstThatWaits);
  return [...fitting, message].join(separator);
}

function jsonBytes(text: string): number {
  return Buffer.byteLength(JSON.stringify(text));
}
