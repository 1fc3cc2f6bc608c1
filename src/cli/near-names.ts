/** Names that a person may have meant. */

const most = 3;

/** Those that begin alike, or differ by two letters at most; the nearest first, three at most. */
export function nearest(asked: string, names: readonly string[]): string[] {
  return names
    .map((name) => ({ name, far: name.startsWith(asked) || asked.startsWith(name) ? 1 : distance(asked, name) }))
    .filter(({ far, name }) => far <= Math.min(2, Math.floor(name.length / 2)))
    .sort((one, other) => one.far - other.far)
    .slice(0, most)
    .map(({ name }) => name);
}

/** Letters to add, drop or change. */
function distance(one: string, other: string): number {
  let above = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (const [row, letter] of [...one].entries()) {
    const line = [row + 1];
    for (let column = 0; column < other.length; column += 1) {
      const change = (above[column] ?? 0) + (letter === other[column] ? 0 : 1);
      line.push(Math.min(change, (line[column] ?? 0) + 1, (above[column + 1] ?? 0) + 1));
    }
    above = line;
  }
  return above.at(-1) ?? 0;
}
