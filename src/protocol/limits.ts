/** The protocol's numbers, apart from its schemas: these cost nothing to load. */

export const protocolVersion = 1;
/** longest id of a turn, in characters */
export const maxTurnIdLength = 64;
/** longest nonce of a turn, in characters */
export const maxNonceLength = 128;
/** longest name of a model, in characters */
export const maxModelLength = 200;
/** most of a user message's line that is not its text, in bytes: its ids and punctuation */
export const maxEnvelopeBytes = 512;
/** longest message of the user, in bytes as a JSON string */
export const maxMessageBytes = 8 * 1024 * 1024;
/** longest line the daemon accepts from a client, in bytes: a message, notes of the host before it, and its ids */
export const maxHostLineBytes = maxMessageBytes + 64 * 1024;
/** longest line the host accepts from the daemon, in bytes */
export const maxAgentLineBytes = 1024 * 1024;
/** longest piece of tool input or output carried by an event, in characters */
export const maxToolTextLength = 16 * 1024;
