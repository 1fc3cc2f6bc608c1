import assert from "node:assert/strict";
import { test } from "node:test";
import { TerminalFilter } from "../../src/cli/terminal-filter.ts";

/** Sequences that do something to a terminal, between words that are to be seen. */
const attacks: Record<string, string> = {
  "the clipboard (OSC 52)": "\u001b]52;c;cm0gLXJmIH4=\u0007",
  "the same, ended by ST": "\u001b]52;c;cm0gLXJmIH4=\u001b\\",
  "the title": "\u001b]0;owned\u0007",
  "a link that says one thing and is another": "\u001b]8;;https://evil.example\u001b\\",
  "a device control string": '\u001bP$q"p\u001b\\',
  "a question that the terminal answers as if it were typed": "\u001b[6n\u001b[c\u001b[>0q",
  "clearing the screen": "\u001b[2J\u001b[H",
  "the other screen": "\u001b[?1049h",
  "8-bit controls": "\u009b2J\u009d0;owned\u009c",
  "an application program command": "\u001b_Gf=100;AAAA\u001b\\",
  "hidden text": "\u001b[8m\u001b[0m",
  "a bell and a backspace": "\u0007\b\b",
  "the other direction": "\u202e\u2066",
};

const printable = /^[\p{L}\p{N}\p{P}\p{S}\p{Zs}\n\t]*$/u;

function inPieces(bytes: Buffer, size: number): string {
  const filter = new TerminalFilter();
  let shown = "";
  for (let start = 0; start < bytes.length; start += size) shown += filter.push(bytes.subarray(start, start + size));
  return shown + filter.end();
}

for (const [what, sequence] of Object.entries(attacks)) {
  test(`nothing stays of ${what}, however it is cut`, () => {
    const bytes = Buffer.from(`before${sequence}behind\n`);
    for (let size = 1; size <= bytes.length; size += 1) assert.equal(inPieces(bytes, size), "beforebehind\n");
  });
}

test("letters that lie in two pieces stay whole", () => {
  const text = "naïve 日本語 🙂 ok\n";
  for (let size = 1; size < 8; size += 1) assert.equal(inPieces(Buffer.from(text), size), text);
});

test("a carriage return cannot write over what stands: it begins a line", () => {
  for (const size of [1, 2, 3, 100]) {
    assert.equal(inPieces(Buffer.from("rm -rf ~\rls\r\nend\r\r\n"), size), "rm -rf ~\nls\nend\n");
  }
});

test("a sequence without an end holds back no more than its cap, and does no harm", () => {
  const filter = new TerminalFilter();
  let shown = filter.push(Buffer.from("\u001b]52;c;"));
  for (let count = 0; count < 100; count += 1) shown += filter.push(Buffer.from("A".repeat(10_000)));
  shown += filter.push(Buffer.from("\u0007seen\n"));
  assert.match(shown + filter.end(), printable);
  assert.match(shown, /seen\n$/);
});

test("random bytes never give more than printable text", () => {
  let seed = 7;
  const next = () => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return seed >> 8;
  };
  const letters = [
    "\u001b",
    "[",
    "]",
    "P",
    "_",
    "^",
    "X",
    "\\",
    "\u0007",
    "\r",
    "\n",
    "\u009b",
    "\u009d",
    "\u009c",
    "m",
    ";",
    "5",
    "?",
    "é",
    " ",
  ];
  for (let round = 0; round < 300; round += 1) {
    const text = Array.from({ length: 60 }, () => letters[next() % letters.length]).join("");
    assert.match(inPieces(Buffer.from(text), 1 + (next() % 9)), printable);
  }
});
