/** The programs and commands in the skills, run as they are written; that of `transformers` is in trainer.test.ts. */
import assert from "node:assert/strict";
import { globSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { isInstalled, newest } from "../syncer/runs.ts";
import { environmentOf } from "../syncer/trackio.ts";
import { answerOf, foldersIn } from "./inside.ts";
import { instructions, programsIn, wordsIn } from "./skill-text.ts";

test("the programs in the skills are Python 3.10", async () => {
  await using folder = await temporaryFolder();
  const programs = globSync("*", { cwd: join(instructions, "skills") }).flatMap(programsIn);
  assert.ok(programs.length >= 3);
  const code = `
import ast, json
for program in json.loads(${JSON.stringify(JSON.stringify(programs))}): ast.parse(program, feature_version=(3, 10))
print("null")`;
  await answerOf({ folder: folder.path, packages: undefined }, code);
});

test("the skill trackio does what it says", async (context) => {
  if (!(await isInstalled(newest, context))) return;
  await using folder = await temporaryFolder();
  const [program = ""] = programsIn("trackio");
  const more = ["trackio.alert(", 'trackio.log({"sample"'].map((start) => wordsIn("trackio", start)).join("\n");
  const goOn = wordsIn("trackio", "trackio.init(project").replace("<name of the folder>", "run_dir.name");
  const commands = ["trackio list runs", "trackio get metric"].map((start) => wordsIn("trackio", start));
  const code = `
import contextlib, io, json, sys
from PIL import Image
Image.new("RGB", (2, 2)).save("sample.png")
steps, loss = 3, 0.5
${program.replace("trackio.finish()", `${more}\ntrackio.finish()`)}
${goOn.replace("{…}", '{"lr": 1}')}
trackio.log({"train/loss": 0.25})
trackio.finish()
from trackio.cli import main
said = io.StringIO()
for command in ${JSON.stringify(commands)}:
    sys.argv = command.replace("<run>", run_dir.name).split()
    with contextlib.redirect_stdout(said): main()
print(json.dumps({"name": run_dir.name, "said": said.getvalue()}))`;
  const packages = environmentOf(newest, "")["PYTHONPATH"];
  const setting = { folder: folder.path, packages };
  const { name, said } = (await answerOf(setting, `import os; os.chdir(os.environ["HOME"])\n${code}`)) as {
    name: string;
    said: string;
  };
  assert.ok(said.includes(`- ${name}\n`), said);
  assert.match(said, /Found 4 value\(s\)/);
  const db = new DatabaseSync(join(foldersIn(folder.path).databases, "my-project.db"), { readOnly: true });
  const count = (table: string) =>
    db.prepare(`SELECT COUNT(*) AS n, COUNT(DISTINCT run_id) AS runs FROM ${table}`).get();
  assert.deepEqual({ ...count("metrics") }, { n: 5, runs: 1 });
  assert.deepEqual({ ...count("alerts") }, { n: 1, runs: 1 });
  assert.equal(db.prepare("SELECT MAX(step) AS step FROM metrics").get()?.["step"], 101);
  db.close();
});
