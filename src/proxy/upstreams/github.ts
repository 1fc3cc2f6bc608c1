/** GitHub for granted repositories: git over smart HTTP, LFS batches, the repositories' REST API, GraphQL when granted. */
import { messageOf } from "../../errors.ts";
import type { GitHubGrant } from "../grant.ts";
import type { Refusal } from "../refusal.ts";
import { parseStrictJson } from "../strict-json.ts";
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

const mebibyte = 1024 * 1024;
/** a push may carry whole checkpoints of a model */
const maxPushBytes = 4096 * mebibyte;

const credential = "GITHUB_TOKEN";

const gitAllowed = "clone, fetch and push of granted repositories, and their LFS batches";
const apiAllowed =
  "/repos/<owner>/<name>/… of granted repositories, with write access also POST, PUT, PATCH and DELETE on its contents, " +
  "git, issues, pulls, labels, milestones, releases, statuses, comments and check-runs";

const gitPath =
  /^\/([A-Za-z0-9][A-Za-z0-9-]*)\/([A-Za-z0-9._-]+?)(?:\.git)?\/(info\/refs|git-upload-pack|git-receive-pack|info\/lfs\/objects\/batch)$/;
const repositoryPath = /^\/repos\/([A-Za-z0-9][A-Za-z0-9-]*)\/([A-Za-z0-9._-]+)(?:\/(.*))?$/;
/** What a writer may change: the work in a repository, and neither its settings, nor who may enter, nor its workflows. */
const writable =
  /^(?:contents|git|issues|pulls|labels|milestones|releases|statuses|comments|check-runs|merges)(?:\/|$)|^commits\/[\w.-]+\/comments$/;

/** `https://github.com` as git and LFS see it. */
export function githubGitUpstream(origin: string): Upstream {
  return {
    name: "github",
    prefix: "/github.com",
    origin: checkedOrigin(origin),
    credential: { name: credential, injection: "basic" },
    style: "git",
    requestHeaders: ["git-protocol", "content-encoding"],
    responseHeaders: [],
    redirects: "refuse",
    maxBodyBytes: maxPushBytes,
    takesEncodedBodies: true,
    decide: (asked, grant) => decideGit(asked, grant.upstreams.github ?? { repositories: {} }),
  };
}

/** `https://api.github.com`. */
export function githubApiUpstream(origin: string): Upstream {
  return {
    name: "github",
    prefix: "/api.github.com",
    origin: checkedOrigin(origin),
    credential: { name: credential, injection: "bearer" },
    style: "github",
    requestHeaders: ["x-github-api-version", "if-none-match", "if-modified-since"],
    responseHeaders: ["etag", "last-modified", "link", "x-ratelimit-*", "x-github-request-id", "x-github-media-type"],
    redirects: "refuse",
    maxBodyBytes: 64 * mebibyte,
    takesEncodedBodies: false,
    decide: (asked, grant) => decideApi(asked, grant.upstreams.github ?? { repositories: {} }),
  };
}

function decideGit({ method, path, query, header }: Asked, grant: GitHubGrant): Decision {
  const [, owner = "", name = "", service = ""] = gitPath.exec(path) ?? [];
  if (service === "" || !isPlainPath(path)) return pathRefusal(gitAllowed);
  const repository = `${owner}/${name}`.toLowerCase();
  // the path that is sent is made of what was granted, not of what was asked
  const target = `/${repository}.git/${service}`;
  if (service === "info/refs") {
    const [, asks] = /^service=git-(upload|receive)-pack$/.exec(query) ?? [];
    if (asks === undefined) return pathRefusal(gitAllowed);
    if (method !== "GET") return methodRefusal(gitAllowed);
    return (
      accessRefusal(grant, repository, asks === "upload" ? "read" : "write") ?? { target: withQuery(target, query) }
    );
  }
  if (query !== "") return pathRefusal(gitAllowed);
  if (method !== "POST") return methodRefusal(gitAllowed);
  if (service !== "info/lfs/objects/batch") {
    return accessRefusal(grant, repository, service === "git-upload-pack" ? "read" : "write") ?? { target };
  }
  if (header("content-encoding") !== undefined) return pathRefusal(gitAllowed);
  return (
    accessRefusal(grant, repository, "read") ?? {
      target,
      judge: (body) => {
        try {
          const { operation } = parseStrictJson(body) as { operation?: unknown };
          return accessRefusal(grant, repository, operation === "download" ? "read" : "write") ?? {};
        } catch (error) {
          return { refusal: { reason: "bad_request", message: messageOf(error) } };
        }
      },
    }
  );
}

function decideApi({ method, path, query }: Asked, grant: GitHubGrant): Decision {
  if (!isPlainPath(path) || !isPlainQuery(query)) return pathRefusal(apiAllowed);
  const target = withQuery(path, query);
  if (path === "/graphql") {
    if (!grant.graphql) return pathRefusal(`${apiAllowed}; GraphQL is not granted`);
    return method === "POST" && query === "" ? { target } : methodRefusal("POST /graphql");
  }
  const [, owner, name, rest = ""] = repositoryPath.exec(path) ?? [];
  if (owner === undefined || name === undefined) return pathRefusal(apiAllowed);
  const repository = `${owner}/${name}`.toLowerCase();
  const isRead = method === "GET" || method === "HEAD";
  const refusal = accessRefusal(grant, repository, isRead ? "read" : "write");
  if (refusal) return refusal;
  if (isRead) return { target };
  if (!["POST", "PUT", "PATCH", "DELETE"].includes(method)) return methodRefusal(apiAllowed);
  return writable.test(rest) ? { target } : pathRefusal(apiAllowed);
}

function accessRefusal(
  grant: GitHubGrant,
  repository: string,
  wanted: "read" | "write",
): { refusal: Refusal } | undefined {
  const access = Object.hasOwn(grant.repositories, repository) ? grant.repositories[repository] : undefined;
  if (access === "write" || access === wanted) return undefined;
  const granted = Object.entries(grant.repositories).map(([name, may]) => `${name} (${may})`);
  const message = `${wanted} access to this repository is not granted; granted are ${granted.join(", ") || "none"}`;
  return { refusal: { reason: "repository_not_granted", message } };
}
