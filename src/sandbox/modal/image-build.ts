/** From an image's plan to its id at Modal, which builds what it has not built before. */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Image } from "modal";
import { SandboxError } from "../../errors.ts";
import { sanitizeText } from "../../sanitize.ts";
import type { CreateOptions } from "../provider.ts";
import { underContext, within } from "./calls.ts";
import type { ImagePlan } from "./image-plan.ts";
import { isNotFound, modalError, statusOf } from "./modal-error.ts";
import type { Account } from "./sdk.ts";

const buildMs = 30 * 60_000;
const answerMs = 60_000;
const progressMs = 10_000;
const keptIds = 100;
/** of a failed build's log, for the user */
const logLines = 25;
const logBytes = 64 * 1024;

export class ImageBuilder {
  readonly #account: Account;
  readonly #cachePath: string;
  /** those that this process has seen to be there */
  readonly #images = new Map<string, Image>();

  constructor(account: Account, stateFolder: string) {
    this.#account = account;
    this.#cachePath = join(stateFolder, "modal/images.json");
  }

  /** The image of `plan`. A SandboxError holds the end of the log of a build that failed. */
  async build(plan: ImagePlan, options: CreateOptions = {}): Promise<Image> {
    const key = createHash("sha256")
      .update(JSON.stringify([this.#account.appName, this.#account.client.environmentName(), plan]))
      .digest("hex");
    const seen = this.#images.get(key);
    if (seen) return seen;
    const known = await this.#known(key);
    const image = known ?? (await this.#buildAnew(plan, options));
    this.#images.set(key, image);
    if (!known) this.#keep(key, image.imageId);
    return image;
  }

  async #known(key: string): Promise<Image | undefined> {
    const id = readIds(this.#cachePath)[key];
    if (id === undefined) return undefined;
    try {
      return await within(answerMs, "for an image", () => this.#account.client.images.fromId(id));
    } catch (error) {
      // deleted at Modal, or of another workspace
      if (isNotFound(error)) return undefined;
      throw modalError(error, "find the image");
    }
  }

  async #buildAnew(plan: ImagePlan, { signal, onProgress }: CreateOptions): Promise<Image> {
    const { client } = this.#account;
    const app = await this.#account.app();
    const startedAt = Date.now();
    let log = "";
    let timer: NodeJS.Timeout | undefined;
    const onAnswer = (method: string, answer: unknown) => {
      if (method !== "ImageJoinStreaming") return;
      timer ??= setInterval(
        () => onProgress?.(`building the image, ${Math.round((Date.now() - startedAt) / 1000)} s`),
        progressMs,
      ).unref();
      const { taskLogs = [] } = answer as { taskLogs?: { data: string }[] };
      log = (log + taskLogs.map(({ data }) => data).join("")).slice(-logBytes);
    };
    try {
      const image = plan.layers.reduce(
        (below, commands) => below.dockerfileCommands(commands),
        client.images.fromRegistry(plan.base),
      );
      return await underContext({ signal, onAnswer }, () =>
        within(buildMs, "to build the image", () => image.build(app)),
      );
    } catch (error) {
      signal?.throwIfAborted();
      // a failed build is no failed call
      if (statusOf(error) !== undefined) throw modalError(error, "build the image");
      throw buildError(error, log);
    } finally {
      clearInterval(timer);
    }
  }

  #keep(key: string, id: string): void {
    const entries = Object.entries({ ...readIds(this.#cachePath), [key]: id }).slice(-keptIds);
    const draft = `${this.#cachePath}.${process.pid}`;
    try {
      mkdirSync(dirname(this.#cachePath), { recursive: true, mode: 0o700 });
      writeFileSync(draft, JSON.stringify(Object.fromEntries(entries)), { mode: 0o600 });
      renameSync(draft, this.#cachePath);
    } catch {
      // it only saves calls
    }
  }
}

function buildError(error: unknown, log: string): SandboxError {
  const known = modalError(error, "build the image");
  const end = sanitizeText(log).trimEnd().split("\n").slice(-logLines).join("\n");
  if (end === "") return known as SandboxError;
  return new SandboxError(`${known.message}\nThe end of its log:\n${end}`, {
    hint: "the whole log is at modal.com/images; a registry that does not answer is worth another try",
    cause: error,
  });
}

function readIds(path: string): Record<string, string> {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as Record<string, string>;
  } catch {
    // none yet, or torn: the image is asked for by its commands
    return {};
  }
}
