/** The control plane's calls about images. */
import { status } from "@grpc/grpc-js";
import type { EmulatedImage, ImageStore } from "./image-store.ts";
import { type Context, type Handlers, RpcError } from "./rpc.ts";
import { resultStatus } from "./sandbox.ts";
import type { Workspace } from "./workspace.ts";

interface GetOrCreate {
  image: {
    dockerfileCommands: string[];
    baseImages: { dockerTag: string; imageId: string }[];
    secretIds: string[];
    contextFiles: unknown[];
  };
  forceBuild: boolean;
}

export function imageCalls(images: ImageStore, workspace: Workspace): Handlers {
  const get = (id: string): EmulatedImage => {
    const image = images.images.get(id);
    if (!image) throw new RpcError(status.NOT_FOUND, `Image ${id} not found`);
    return image;
  };
  return {
    ImageGetOrCreate: async ({ image, forceBuild }: GetOrCreate) => {
      const { dockerfileCommands: commands, baseImages, secretIds } = image;
      const secretEnv = workspace.valuesOf(secretIds);
      const built = await images.getOrCreate({ commands, baseImages, secretEnv, force: forceBuild });
      return { imageId: built.id, ...(built.state !== "building" && { result: await resultOf(built) }) };
    },
    async *ImageJoinStreaming(request: { imageId: string; timeout: number; lastEntryId: string }, context: Context) {
      const image = get(request.imageId);
      const signal = AbortSignal.any([context.signal, AbortSignal.timeout((request.timeout || 55) * 1000)]);
      for await (const { offset, data } of image.log.read(Number(request.lastEntryId) || 0, signal)) {
        const item = { data: data.toString(), fileDescriptor: 1, timestamp: Date.now() / 1000 };
        yield { entryId: String(offset + data.length), taskLogs: [item] };
      }
      if (!signal.aborted) yield { entryId: String(image.log.size), result: await resultOf(image), eof: true };
    },
    ImageFromId: ({ imageId }: { imageId: string }) => ({ imageId: get(imageId).id }),
  };
}

function resultOf(image: EmulatedImage): Promise<object> {
  return image.built.then(
    () => ({ status: resultStatus.success }),
    (error: Error) => ({ status: resultStatus.failure, exception: error.message }),
  );
}
