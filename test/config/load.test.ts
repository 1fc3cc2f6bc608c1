import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { type ConfigSources, loadConfig } from "../../src/config/load.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";

async function withSources(body: (sources: ConfigSources, home: string) => Promise<void>): Promise<void> {
  await using folder = await temporaryFolder();
  const sources = { flags: {}, environment: {}, projectFolder: join(folder.path, "project"), home: folder.path };
  await mkdir(sources.projectFolder);
  await mkdir(join(folder.path, ".config/modal-sb"), { recursive: true });
  await body(sources, folder.path);
}

test("the nearer source wins: flag, variable, project, user, default; each value knows its origin", () =>
  withSources(async (sources, home) => {
    const userFile = join(home, ".config/modal-sb/config.json");
    const projectFile = join(sources.projectFolder, "modal-sb.json");
    const expect = (value: number, origin: string, changes: Partial<ConfigSources> = {}) => {
      const config = loadConfig({ ...sources, ...changes });
      assert.deepEqual([config.settings.maxTurns, config.origins.maxTurns], [value, origin]);
    };
    expect(100, "default");
    await writeFile(userFile, '{"maxTurns": 1}');
    expect(1, userFile);
    await writeFile(projectFile, '{"maxTurns": 2}');
    expect(2, projectFile);
    const environment = { MODAL_SB_MAX_TURNS: "3" };
    expect(3, "MODAL_SB_MAX_TURNS", { environment });
    expect(4, "--max-turns", { environment, flags: { maxTurns: "4" } });
  }));

test("an empty variable is unset, and a list of hostnames has commas", () =>
  withSources(async (sources) => {
    const config = loadConfig({
      ...sources,
      environment: { MODAL_SB_MODEL: "", MODAL_SB_EGRESS: "a.example, *.b.example" },
    });
    assert.equal(config.settings.model, undefined);
    assert.deepEqual(config.settings.egress, { allow: ["a.example", "*.b.example"] });
  }));

test("paths in a file are meant from the file's folder", () =>
  withSources(async (sources) => {
    await writeFile(join(sources.projectFolder, "modal-sb.json"), '{"instructions": "agent"}');
    assert.equal(loadConfig(sources).settings.instructions, join(sources.projectFolder, "agent"));
  }));

test("the state lies in the home folder unless XDG_STATE_HOME says otherwise", () =>
  withSources(async (sources, home) => {
    assert.equal(loadConfig(sources).settings.stateFolder, join(home, ".local/state/modal-sb"));
    const environment = { XDG_STATE_HOME: "/var/state" };
    assert.equal(loadConfig({ ...sources, environment }).settings.stateFolder, "/var/state/modal-sb");
  }));

test("an origin that is not https, or not on this machine, is refused", () =>
  withSources(async (sources) => {
    for (const origin of [
      "http://api.example",
      "ftp://x",
      "https://x/path",
      "nonsense",
      "http://127.0.0.1.evil.example",
    ]) {
      assert.throws(() => loadConfig({ ...sources, flags: { anthropicOrigin: origin } }), /--anthropic-origin/, origin);
    }
    for (const origin of ["https://api.example", "http://127.0.0.1:8080", "http://localhost", "http://[::1]:9/"]) {
      assert.equal(
        loadConfig({ ...sources, flags: { anthropicOrigin: origin } }).settings.anthropicOrigin,
        origin.replace(/\/$/, ""),
      );
    }
  }));

test("a number is written as one: nothing else is taken for 0 or 1", () =>
  withSources(async (sources, home) => {
    for (const budgetUsd of ["", " ", "1e3", "0x10", "-1", "1,5", "Infinity"]) {
      assert.throws(() => loadConfig({ ...sources, flags: { budgetUsd } }), /--budget-usd/, budgetUsd);
    }
    assert.throws(() => loadConfig({ ...sources, flags: { budgetUsd: "-1" } }), /Too small/);
    for (const value of [true, null, [], ""]) {
      await writeFile(
        join(home, ".config/modal-sb/config.json"),
        JSON.stringify({ budgetUsd: value, maxTurns: value }),
      );
      assert.throws(() => loadConfig(sources), /must be a (?:whole )?number/, JSON.stringify(value));
    }
    await writeFile(join(home, ".config/modal-sb/config.json"), "{}");
    const { settings } = loadConfig({
      ...sources,
      flags: { budgetUsd: "0.5" },
      environment: { MODAL_SB_PROCESSES: "64" },
    });
    assert.deepEqual([settings.budgetUsd, settings.processes], [0.5, 64]);
  }));
