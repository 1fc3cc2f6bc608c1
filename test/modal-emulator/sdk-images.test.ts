import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Emulator, startEmulator, whyNot } from "./emulator.ts";
import { type Connection, connect, printed } from "./sdk-client.ts";

const reason = await whyNot();

describe("images of the emulator", { skip: reason ?? false }, () => {
  let emulator: Emulator;
  let modal: Connection;
  before(async () => {
    emulator = await startEmulator({ secrets: { build: { BUILD_SECRET: "seen" } } });
    modal = await connect(emulator);
  });
  after(async () => {
    modal.client.close();
    await emulator[Symbol.asyncDispose]();
  });

  test("layers: RUN, heredocs, ENV, WORKDIR, ENTRYPOINT", async () => {
    const image = modal.client.images
      .fromRegistry("debian:bookworm-slim")
      .dockerfileCommands([
        "ENV GREETING=hello NAME='the world'",
        `ENV BOTH="$GREETING $\{NAME}"`,
        "WORKDIR /place/here",
        "RUN echo $BOTH > greeting && \\\n  echo more >> greeting",
      ])
      .dockerfileCommands([
        "RUN <<EOF\necho from a script > /script\nrm /usr/bin/perlbug || true\nEOF",
        "RUN cat <<END > /heredoc\nkept $GREETING\nEND",
      ])
      .dockerfileCommands(['ENTRYPOINT ["env", "EXTRA=1"]'], {
        env: { AT_BUILD: "1" },
        secrets: [await modal.client.secrets.fromName("build")],
      });
    const sandbox = await modal.client.sandboxes.create(modal.app, image, { command: ["sleep", "1000"] });
    assert.equal(
      await printed(sandbox, "sh", "-c", "cat /place/here/greeting /script /heredoc"),
      "hello the world\nmore\nfrom a script\nkept hello\n",
    );
    const environment = await printed(sandbox, "sh", "-c", "tr '\\0' '\\n' < /proc/2/environ");
    assert.match(environment, /^EXTRA=1$/m);
    assert.doesNotMatch(environment, /AT_BUILD|BUILD_SECRET/);
    assert.equal(await printed(sandbox, "pwd"), "/place/here\n");
    assert.equal(emulator.images().at(-1)?.commands.length, 2);
  });

  test("secrets are there in a build", async () => {
    const secrets = [await modal.client.secrets.fromName("build")];
    const image = modal.client.images
      .fromRegistry("debian:bookworm")
      .dockerfileCommands(['RUN test "$BUILD_SECRET" = seen'], { secrets });
    await image.build(modal.app);
  });

  test("node and npm of the tag, python and pip that may install", async () => {
    const node = await modal.client.sandboxes.create(modal.app, modal.client.images.fromRegistry("node:24-bookworm"));
    assert.equal(await printed(node, "node", "--version"), `${process.version}\n`);
    assert.match(await printed(node, "npm", "--version"), /^\d+\./);
    const python = await modal.client.sandboxes.create(modal.app, modal.client.images.fromRegistry("python:3.11"));
    assert.match(await printed(python, "python", "-m", "pip", "--version"), /python 3/);
  });

  test("packages install from the registries of the machine, in a build", async () => {
    const python = modal.client.images
      .fromRegistry("python:3.11")
      .dockerfileCommands(["RUN pip install --no-cache-dir idna==3.20"]);
    const sandbox = await modal.client.sandboxes.create(modal.app, python);
    assert.equal(await printed(sandbox, "python3", "-c", "import idna; print(idna.__version__)"), "3.20\n");
    const node = modal.client.images.fromRegistry("node:24").dockerfileCommands(["RUN npm install -g semver@7.7.1"]);
    const other = await modal.client.sandboxes.create(modal.app, node);
    assert.equal(await printed(other, "semver", "1.2.3"), "1.2.3\n");
  });

  test("a failing RUN fails the build with words, and its output is in the stream", async () => {
    const image = modal.client.images.fromRegistry("debian:bookworm").dockerfileCommands(["RUN echo before; exit 3"]);
    await assert.rejects(image.build(modal.app), /ended with 3: echo before; exit 3/);
    const { imageId } = await modal.client.cpClient.imageGetOrCreate({
      appId: modal.app.appId,
      image: { dockerfileCommands: ["FROM debian:bookworm", "RUN echo before; exit 3"] },
    });
    let log = "";
    for await (const item of modal.client.cpClient.imageJoinStreaming({ imageId, timeout: 55 }))
      for (const { data } of item.taskLogs) log += data;
    assert.match(log, /^before$/m);
  });

  test("what it cannot build is refused loudly", async () => {
    const build = (tag: string, ...commands: string[]) =>
      modal.client.images.fromRegistry(tag).dockerfileCommands(commands).build(modal.app);
    await assert.rejects(build("debian:bookworm", "COPY --from=base /a /b"), /does not build COPY/);
    await assert.rejects(build("debian:bookworm", "RUN --mount=type=cache,target=/c true"), /options of RUN/);
    await assert.rejects(build("ubuntu:24.04", "RUN true"), /debian, python and node only/);
  });

  test("a layer is built once", async () => {
    const build = () =>
      modal.client.images.fromRegistry("debian:bookworm").dockerfileCommands(["RUN date +%N > /built"]);
    const one = await modal.client.sandboxes.create(modal.app, build());
    const other = await modal.client.sandboxes.create(modal.app, build());
    assert.equal(await printed(one, "cat", "/built"), await printed(other, "cat", "/built"));
  });
});
