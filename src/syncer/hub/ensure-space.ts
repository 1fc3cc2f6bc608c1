/** Makes sure that a trackio Space is there: finds it, or makes it with its bucket, in steps that can be repeated. */
import { setTimeout } from "node:timers/promises";
import { Bucket } from "./bucket.ts";
import { type HubAccess, HubApi } from "./hub-api.ts";
import { HubError, isConflict } from "./hub-error.ts";
import { seedPath, seedRecord } from "./seed.ts";
import { findSpace, type SpaceFacts } from "./spaces.ts";

export interface EnsureSpaceOptions extends HubAccess {
  /** "owner/name" */
  spaceId: string;
  /** how to make it when it is missing; undefined: a missing one is an error */
  create?: "private" | "public" | undefined;
  /** whether a trackio server answers at the Space's address: asked of a Space that does not say that it is trackio's */
  answers?: () => Promise<boolean>;
}

/** of a Space that we make; the newest that is tested */
const trackioVersion = "0.43.0";
const conflictTries = 6;
const firstConflictMs = 250;

/** Throws a HubError that says in words what Hugging Face refuses. Interrupted and called again, it goes on. */
export async function ensureSpace(options: EnsureSpaceOptions): Promise<"found" | "created"> {
  const { spaceId, create, answers } = options;
  const hub = new HubApi(options);
  const found = await findSpace(hub, spaceId);
  if (found) {
    await checkIsTrackio(spaceId, found, answers);
    return "found";
  }
  if (create === undefined) throw new MissingSpaceError(spaceId);
  try {
    await createSpace(hub, spaceId, create);
    return "created";
  } catch (error) {
    // made by somebody else in between, or by us, whose answer was lost
    const now = error instanceof HubError && error.status === 409 ? await findSpace(hub, spaceId) : undefined;
    if (!now) throw error;
    await checkIsTrackio(spaceId, now, answers);
    return "found";
  }
}

/** A Space that is not there, and is not to be made. */
class MissingSpaceError extends HubError {
  constructor(spaceId: string) {
    const make = "have it made, private, with --create-space or with --metrics owner/name:create";
    const hint = `${make}; or check the name, and that the token may see it`;
    super(`There is no Space ${spaceId}`, { status: 404, hint });
  }
}

async function checkIsTrackio(
  spaceId: string,
  { sdk, tags }: SpaceFacts,
  answers: EnsureSpaceOptions["answers"],
): Promise<void> {
  if (sdk === "static") {
    const hint = "name another Space: a frozen one is a picture of what was, and takes no metrics";
    throw new HubError(`The Space ${spaceId} is static: frozen, if it was trackio's`, { status: 409, hint });
  }
  if (tags.includes("trackio") || (await answers?.())) return;
  const hint = "name a trackio Space, or one that is not there yet, with --create-space";
  throw new HubError(`The Space ${spaceId} is not one of trackio's`, { status: 409, hint });
}

/**
 * The bucket first, then a metric in it, then the Space, in one request: it starts with its bucket, and shows something.
 * As trackio 0.43 deploys (deploy.py), but for the user's token, which it leaves in the Space as a secret: whoever may write to the
 * Space could read it, and the importing of fragments from the mounted bucket needs none.
 */
async function createSpace(hub: HubApi, spaceId: string, visibility: "private" | "public"): Promise<void> {
  const bucketId = `${spaceId}-bucket`;
  const bucket = new Bucket(hub, bucketId);
  await untilNoConflict(() => bucket.ensure(visibility));
  // one that was there may hold metrics
  const isNew = !(await bucket.list("trackio")).some((path) => path.endsWith(".db"));
  if (isNew) await bucket.upload(seedPath, seedRecord(spaceId, new Date()));
  const [organization, name] = spaceId.split("/");
  const files = Object.entries(filesOf()).map(([path, text]) => {
    return { path, encoding: "base64", content: Buffer.from(text).toString("base64") };
  });
  const variables = { TRACKIO_DIR: "/data/trackio", TRACKIO_BUCKET_ID: bucketId, GRADIO_MCP_SERVER: "True" };
  const request = {
    ...{ type: "space", organization, name, visibility, sdk: "gradio", files },
    variables: Object.entries(variables).map(([key, value]) => ({ key, value })),
    volumes: [{ type: "bucket", source: bucketId, mountPath: "/data" }],
  };
  const made = await untilNoConflict(() =>
    hub.request(`make the Space ${spaceId} for "${organization}"`, "POST", "/api/repos/create", request),
  );
  if (made === undefined) throw noOwner(organization ?? "");
}

function noOwner(owner: string): HubError {
  const hint = "the first part of a Space's name is your user name, or an organisation's that you may write to";
  return new HubError(`Hugging Face knows no owner "${owner}" that the token may write to`, { status: 404, hint });
}

function filesOf(): Record<string, string> {
  const readme = [
    ...["---", "emoji: 🎯", "sdk: gradio", "app_file: app.py", "tags:", " - trackio", "hf_oauth: true"],
    ...["hf_oauth_scopes:", " - write-repos", "---", ""],
  ].join("\n");
  return {
    "README.md": readme,
    "requirements.txt": `trackio[spaces,mcp]==${trackioVersion}\n`,
    "app.py": "import trackio\n\ntrackio.show()\n",
  };
}

async function untilNoConflict<Result>(action: () => Promise<Result>): Promise<Result> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await action();
    } catch (error) {
      if (!isConflict(error) || tries >= conflictTries) throw error;
      await setTimeout(firstConflictMs * 2 ** tries);
    }
  }
}
