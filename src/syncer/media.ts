/** Files that rows name: images, sounds and the like. They lie below `media/` of the trackio folder. */
import { basename, join, normalize } from "node:path";
import { messageOf } from "../errors.ts";
import { readRegularFile } from "./regular-file.ts";
import { ServerFailure, type TrackioServer } from "./trackio-server.ts";
import type { MediaFile } from "./watermarks.ts";

/** larger ones are not sent, in bytes */
const maxFileBytes = 32 * 1024 * 1024;

/** Sends a file to where its row looks for it. A string says why it cannot be sent; a ServerFailure is thrown. */
export async function sendMedia(
  folder: string,
  project: string,
  file: MediaFile,
  server: TrackioServer,
  spend: (bytes: number) => void,
): Promise<string | undefined> {
  const content = contentOf(folder, file.path);
  if (typeof content === "string") return content;
  spend(content.length);
  try {
    await put(project, file, content, server);
    return undefined;
  } catch (error) {
    // the server takes others
    if (error instanceof ServerFailure && error.kind === "content") return error.message;
    throw error;
  }
}

async function put(project: string, file: MediaFile, content: Buffer, server: TrackioServer): Promise<void> {
  const name = basename(file.path);
  const [path] = await server.upload([{ name, content: new Blob([new Uint8Array(content)]) }]);
  const { run, runId, step } = file;
  const uploaded = { path, orig_name: name, meta: { _type: "gradio.FileData" } };
  const upload = `{"project":${JSON.stringify(project)},"run":${JSON.stringify(run)},"run_id":${JSON.stringify(runId)},"step":${step},"relative_path":null,"uploaded_file":${JSON.stringify(uploaded)}}`;
  await server.call("bulk_upload_media", `{"uploads":[${upload}],"hf_token":null}`);
}

/** The path comes from a row, and so from the sandbox. */
function contentOf(folder: string, path: string): Buffer | string {
  if (path.startsWith("/") || normalize(path) !== path || path.startsWith("..") || path.includes("\0")) {
    return "its path leads elsewhere";
  }
  try {
    // from the folder on, which is nobody's but ours: "media" itself could be a link
    return readRegularFile(folder, join("media", path), maxFileBytes);
  } catch (error) {
    return messageOf(error);
  }
}
