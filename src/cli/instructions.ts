/** The folder that the user's settings name for /app/.claude, and what the user should know of it. */
import { existsSync, realpathSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import type { Config } from "../config/load.ts";
import { ConfigError } from "../errors.ts";
import { homeProblems } from "../session/agent-home.ts";

const projectFile = "modal-sb.json";

/** Its path; the setting must have a value. Throws a ConfigError when it is no folder, or not one that the setting's origin may name. */
export function instructionsFolder({ settings, origins }: Config): string {
  const folder = resolve(settings.instructions ?? "");
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
    throw new ConfigError(`The instructions of ${origins.instructions} are not a folder: "${folder}"`, {
      hint: "name a folder that holds CLAUDE.md and, if wanted, skills/",
    });
  }
  const project = dirname(origins.instructions);
  // a project may come from a stranger, and all of the folder goes to the agent: not ~/.ssh, not by a link either
  if (basename(origins.instructions) === projectFile && !realpathSync(folder).startsWith(`${realpathSync(project)}/`)) {
    throw new ConfigError(`The instructions of ${origins.instructions} are not below the project: "${folder}"`, {
      hint: "a project may only give what it brings itself; --instructions takes any folder",
    });
  }
  return folder;
}

/** What the agent will not see although it is there. claude itself says nothing of a skill that it leaves out. */
export function tellOfInstructions(config: Config, note: (text: string) => void): void {
  if (config.settings.instructions === undefined) {
    if (!isProjectHome(resolve(".claude"))) return;
    note("note: the .claude/ of this folder is not used; the agent gets modal-sb's own instructions");
    note(`hint: --instructions .claude takes it; "instructions": ".claude" in ${projectFile} does so always`);
    return;
  }
  for (const problem of homeProblems(instructionsFolder(config))) note(`warning: in the instructions, ${problem}`);
}

/** Not the user's own, which lies in the home folder, and not one that only remembers what a person has allowed. */
function isProjectHome(folder: string): boolean {
  if (folder === join(homedir(), ".claude")) return false;
  return ["CLAUDE.md", "skills", "agents", "commands", "rules", "settings.json"].some((name) =>
    existsSync(join(folder, name)),
  );
}
