/** The Hugging Face Hub, to read: models, datasets and spaces, also gated and private ones. */
import type { HuggingFaceGrant } from "../grant.ts";
import { isPlainPath, isPlainQuery } from "../target.ts";
import {
  type Asked,
  checkedOrigin,
  type Decision,
  methodRefusal,
  pathRefusal,
  type Upstream,
  withQuery,
} from "./upstream.ts";

const allowed = "GET and HEAD of repositories and their files, and their lists of files";

/** First words behind a repository's name; a name without an owner is followed by one of them, or by nothing. */
const parts = new Set(["resolve", "raw", "revision", "tree", "refs", "commits", "paths-info", "treesize", "parquet"]);
/** The one kind of revision whose name has slashes; clients escape them. */
const slashedRevision = /\/refs%2[fF](?:pr|convert)%2[fF]\w+(?=\/|$)/;

export function huggingFaceUpstream(origin: string): Upstream {
  return {
    name: "huggingface",
    prefix: "/huggingface.co",
    origin: checkedOrigin(origin),
    credential: { name: "HF_TOKEN", injection: "bearer" },
    style: "huggingface",
    requestHeaders: ["range", "if-none-match", "if-modified-since", "if-range"],
    // those of the chunk store stay behind: it would want a token of its own in the sandbox
    responseHeaders: [
      "etag",
      "last-modified",
      "accept-ranges",
      "content-range",
      "content-disposition",
      "link",
      "x-repo-commit",
      "x-linked-etag",
      "x-linked-size",
      "x-error-code",
      "x-error-message",
      "x-request-id",
      "ratelimit*",
    ],
    redirects: "pass",
    maxBodyBytes: 1024 * 1024,
    takesEncodedBodies: false,
    decide: (asked, grant) => decide(asked, grant.upstreams.huggingface ?? {}),
  };
}

function decide({ method, path, query }: Asked, { repositories }: HuggingFaceGrant): Decision {
  if (!isPlainPath(path.replace(slashedRevision, "/revision")) || !isPlainQuery(query)) return pathRefusal(allowed);
  const found = repositoryOf(path);
  if (!found) return pathRefusal(allowed);
  const isRead = method === "GET" || method === "HEAD";
  // a list of files that is asked for by name: read only, though it is a POST
  const isQuestion = method === "POST" && found.part === "paths-info";
  if (!isRead && !isQuestion) return methodRefusal(allowed);
  if (repositories && !(found.repository && repositories.includes(found.repository))) {
    const message = `this repository is not granted; granted are ${repositories.join(", ")}`;
    return { refusal: { reason: "repository_not_granted", message } };
  }
  return { target: withQuery(path, query) };
}

/** The repository that a path is about, as a grant names it; `repository` is undefined for a search among all. */
function repositoryOf(path: string): { repository: string | undefined; part: string | undefined } | undefined {
  const segments = path.split("/").slice(1);
  const isApi = segments[0] === "api";
  if (isApi) segments.shift();
  const isCache = isApi && segments[0] === "resolve-cache";
  if (isCache) segments.shift();
  const kind = ["models", "datasets", "spaces"].includes(segments[0] ?? "") ? segments.shift() : undefined;
  if (isApi && kind === undefined) return undefined;
  const [first, second] = segments;
  if (first === undefined || first === "")
    return isApi && !isCache ? { repository: undefined, part: undefined } : undefined;
  const hasOwner = second !== undefined && !parts.has(second);
  const name = hasOwner ? `${first}/${second}` : first;
  const part = segments[hasOwner ? 2 : 1];
  const repository = kind === undefined || kind === "models" ? name : `${kind}/${name}`;
  if (isCache || part === undefined) return isApi ? { repository, part } : undefined;
  return parts.has(part) && (isApi || part === "resolve" || part === "raw") ? { repository, part } : undefined;
}
