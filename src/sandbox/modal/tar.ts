/** A tar archive that depends on names, modes and contents alone: the same files give the same bytes, whenever they are packed. */
import { lstatSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import { SandboxError } from "../../errors.ts";

const blockBytes = 512;

export interface TarEntry {
  /** absolute path in the sandbox */
  path: string;
  content: { kind: "file"; bytes: Buffer; executable: boolean } | { kind: "folder" } | { kind: "link"; target: string };
}

/** The files below `hostPath` as they shall lie at `path`, sorted. `keepLinks`: links stay links, else what they lead to is taken. */
export function entriesOf(hostPath: string, path: string, keepLinks: boolean): TarEntry[] {
  const stat = keepLinks ? lstatSync(hostPath) : statSync(hostPath);
  if (stat.isSymbolicLink()) return [{ path, content: { kind: "link", target: readlinkSync(hostPath) } }];
  if (stat.isFile()) {
    const executable = (stat.mode & 0o100) !== 0;
    return [{ path, content: { kind: "file", bytes: readFileSync(hostPath), executable } }];
  }
  // sockets, pipes and devices have no content to take along
  if (!stat.isDirectory()) return [];
  const below = readdirSync(hostPath)
    .sort()
    .flatMap((name) => entriesOf(join(hostPath, name), `${path}/${name}`, keepLinks));
  return [{ path, content: { kind: "folder" } }, ...below];
}

/** Everything belongs to root, can be read by all, and was changed in 1970. */
export function tarOf(entries: readonly TarEntry[]): Buffer {
  const blocks = entries.flatMap(({ path, content }) => {
    const bytes = content.kind === "file" ? content.bytes : Buffer.alloc(0);
    return [headerOf(path, content), bytes, Buffer.alloc((blockBytes - (bytes.length % blockBytes)) % blockBytes)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(2 * blockBytes)]);
}

function headerOf(path: string, content: TarEntry["content"]): Buffer {
  const { name, prefix } = splitName(path.replace(/^\/+/, "") + (content.kind === "folder" ? "/" : ""));
  const header = Buffer.alloc(blockBytes);
  const octal = (value: number, length: number) => `${value.toString(8).padStart(length - 1, "0")}\0`;
  const isPlain = content.kind === "file" && !content.executable;
  header.write(name, 0, 100);
  header.write(octal(isPlain ? 0o644 : 0o755, 8), 100);
  header.write(octal(0, 8), 108);
  header.write(octal(0, 8), 116);
  header.write(octal(content.kind === "file" ? content.bytes.length : 0, 12), 124);
  header.write(octal(0, 12), 136);
  header.write(" ".repeat(8), 148);
  header.write({ file: "0", link: "2", folder: "5" }[content.kind], 156);
  if (content.kind === "link") header.write(content.target, 157, 100);
  header.write("ustar\x0000", 257);
  header.write(prefix, 345, 155);
  header.write(
    octal(
      header.reduce((sum, byte) => sum + byte, 0),
      7,
    ),
    148,
  );
  return header;
}

/** The format has 100 bytes for the end of a path and 155 for what is before it. */
function splitName(path: string): { name: string; prefix: string } {
  if (Buffer.byteLength(path) <= 100) return { name: path, prefix: "" };
  for (let slash = path.indexOf("/"); slash !== -1; slash = path.indexOf("/", slash + 1)) {
    const [prefix, name] = [path.slice(0, slash), path.slice(slash + 1)];
    if (Buffer.byteLength(name) <= 100 && Buffer.byteLength(prefix) <= 155 && name !== "") return { name, prefix };
  }
  throw new SandboxError(`The path "${path}" is too long to be sent to Modal`, { hint: "shorten it" });
}
