/**
 * `sync <mountpoint>` inside a sandbox. A program that is bound over /usr/bin/sync asks the emulator through a socket,
 * which is a path and so reaches through the sandbox's network namespace; without a path that is on a volume it does what
 * the real one does.
 */
import { once } from "node:events";
import { chmod, copyFile, mkdir, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { join } from "node:path";

const program = `#!/usr/bin/perl
use Socket;
my $real = "/__modal/.bin/sync";
my @paths = grep { !/^-/ } @ARGV;
for my $path (@paths) {
  open(my $resolved, '-|', '/usr/bin/realpath', '-m', '--', $path) or exit 1;
  my $absolute = <$resolved>;
  chomp $absolute;
  socket(my $door, AF_UNIX, SOCK_STREAM, 0) or exit 1;
  connect($door, pack_sockaddr_un("/__modal/door")) or exit 1;
  syswrite($door, "$absolute\\n");
  my $answer = <$door>;
  push @others, $path if $answer eq "elsewhere\\n";
  exit 1 if $answer ne "done\\n" && $answer ne "elsewhere\\n";
}
exit 0 if @paths && !@others;
exec $real, grep({ /^-/ } @ARGV), @others;
`;

export class PlatformFolder {
  readonly #server: Server;
  /** for the sandbox */
  readonly binds: { path: string; hostPath: string; readOnly: boolean }[];

  private constructor(server: Server, folder: string) {
    this.#server = server;
    this.binds = [
      { path: "/__modal", hostPath: folder, readOnly: true },
      { path: "/usr/bin/sync", hostPath: join(folder, "asking-sync"), readOnly: true },
    ];
  }

  /** `sync`: commits the volume that the path is on, and says whether it is on one */
  static async open(folder: string, sync: (path: string) => Promise<boolean>): Promise<PlatformFolder> {
    await mkdir(join(folder, ".bin"), { recursive: true });
    await writeFile(join(folder, "asking-sync"), program, { mode: 0o755 });
    await copyFile("/usr/bin/sync", join(folder, ".bin/sync"));
    await copyFile(join(import.meta.dirname, "fs-tools.py"), join(folder, ".bin/modal-sandbox-fs-tools"));
    await chmod(join(folder, ".bin/modal-sandbox-fs-tools"), 0o755);
    const server = createServer((socket) => {
      socket.on("error", () => {});
      let asked = "";
      socket.on("data", (chunk) => {
        asked += chunk;
        if (!asked.endsWith("\n")) return;
        void sync(asked.trim()).then(
          (isOurs) => socket.end(isOurs ? "done\n" : "elsewhere\n"),
          (error: Error) => socket.end(`${error.message}\n`),
        );
      });
    });
    server.listen(join(folder, "door"));
    await once(server, "listening");
    return new PlatformFolder(server, folder);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
