/**
 * The little language of a CLAUDE.md: `{{name}}` stands for a fact, `{{#name}}…{{/name}}` is there when the fact is, and
 * `{{^name}}…{{/name}}` when it is not. It is Mustache's, and not its library: that one escapes for HTML, and takes a name that
 * nobody knows for an empty one.
 */
import { ConfigError } from "../errors.ts";

/** An empty fact is none. */
export type Facts = Readonly<Record<string, string>>;

/** a backslash in front makes it ordinary text */
const tag = /(\\?)\{\{([#^/]?)([A-Za-z][A-Za-z0-9]*)\}\}/g;
/** one that stands alone takes its line with it */
const lineOfSection = /^[ \t]*(\{\{[#^/][A-Za-z][A-Za-z0-9]*\}\})[ \t]*\r?\n/gm;

/** Whether rendering would change it. */
export function hasPlaceholders(text: string): boolean {
  return text.search(tag) !== -1;
}

/** `place` names the text in errors. Throws a ConfigError for an unknown name, and for a section that is not closed. */
export function renderTemplate(text: string, facts: Facts, place: string): string {
  const source = text.replace(lineOfSection, "$1");
  const open: { name: string; isShown: boolean }[] = [];
  let rendered = "";
  let end = 0;
  const isShown = () => open.every((section) => section.isShown);
  const take = (words: string) => {
    if (isShown()) rendered += words;
  };
  for (const { 0: whole, 1: backslash, 2: kind = "", 3: name = "", index } of source.matchAll(tag)) {
    take(source.slice(end, index));
    end = index + whole.length;
    const fact = facts[name];
    if (backslash) take(whole.slice(1));
    else if (fact === undefined) throw unknownName(name, facts, place);
    else if (kind === "") take(fact);
    else if (kind !== "/") open.push({ name, isShown: (fact !== "") === (kind === "#") });
    else if (open.pop()?.name !== name) throw new ConfigError(`{{/${name}}} closes no section in ${place}`);
  }
  const left = open.at(-1);
  if (left) {
    throw new ConfigError(`The section "${left.name}" is not closed in ${place}`, { hint: `add {{/${left.name}}}` });
  }
  return rendered + source.slice(end);
}

function unknownName(name: string, facts: Facts, place: string): ConfigError {
  return new ConfigError(`Unknown placeholder {{${name}}} in ${place}`, {
    hint: `the names are ${Object.keys(facts).join(", ")}; \\{{${name}}} is ordinary text`,
  });
}
