/** Copies that appear whole or not at all, also through a power cut: made beside their place, then renamed into it. */
import { constants } from "node:fs";
import { copyFile, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

/** begins the names of copies that are not complete; trackio gives no such name, and no reader looks at one */
const draftPrefix = ".modal-sb-draft-";

/** `make` writes the file at the path that it gets. Readers of other users may read the result. */
export async function putWhole(path: string, make: (draft: string) => Promise<unknown>): Promise<void> {
  const folder = dirname(path);
  await mkdir(folder, { recursive: true });
  const draft = join(folder, `${draftPrefix}${basename(path)}`);
  try {
    await rm(draft, { force: true });
    await make(draft);
    const file = await open(draft, "r+");
    try {
      await file.chmod(0o644);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(draft, path);
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  }
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Shares the blocks where the file system can. */
export async function copyWhole(from: string, to: string): Promise<void> {
  await putWhole(to, (draft) => copyFile(from, draft, constants.COPYFILE_FICLONE));
}

/** Removes what a copy that was interrupted left in a folder. */
export async function removeDrafts(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  await Promise.all(
    names.filter((name) => name.startsWith(draftPrefix)).map((name) => rm(join(folder, name), { force: true })),
  );
}
