/** The request line's target, judged as it came: nothing is decoded or resolved, so that no two readers can differ. */

export interface Target {
  /** as it stands, e.g. "/v1/messages" */
  path: string;
  /** behind the question mark, "" when there is none */
  query: string;
}

/** Splits a request target, e.g. "/v1/messages?beta=true". */
export function splitTarget(target: string): Target {
  const mark = target.indexOf("?");
  return mark === -1 ? { path: target, query: "" } : { path: target.slice(0, mark), query: target.slice(mark + 1) };
}

/**
 * True when every reader understands the path alike: it begins with one slash, has no empty, `.` or `..` segment, no
 * character that a URL must escape, and escapes nothing that would be a slash, a dot, a percent or a control character.
 */
export function isPlainPath(path: string): boolean {
  return (
    path.length <= 4096 &&
    /^(?:\/[\w.~!$&'()*+,=:@%-]+)+\/?$/.test(path) &&
    !/\/\.{1,2}(?:\/|$)/.test(path) &&
    hasPlainEscapes(path)
  );
}

/** True when a query holds printable characters only, and none that could end it. */
export function isPlainQuery(query: string): boolean {
  return query.length <= 4096 && /^[\w.~!$&'()*+,;=:@%/?-]*$/.test(query) && !/%(?![0-9a-f]{2})|%0[0ad]/i.test(query);
}

function hasPlainEscapes(path: string): boolean {
  return !/%(?![0-9a-f]{2})|%(?:2e|2f|5c|25|[01][0-9a-f]|7f)/i.test(path);
}
