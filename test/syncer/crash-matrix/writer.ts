/** A real trackio that logs what it is told to, and is started anew when it was killed. */
import { type PythonProcess, startPython } from "../python-process.ts";
import { newest, quiet } from "../runs.ts";
import type { Seeded } from "./seeded.ts";

const program = `
import json, math, sys
isOpen = False
for line in sys.stdin:
    order = json.loads(line)
    if "run" in order:
        if isOpen: trackio.finish()
        trackio.init(project=order["project"], name=order["run"], config=order["config"], resume="allow", ${quiet})
        isOpen = True
    for i in range(order.get("rows", 0)):
        trackio.log({"loss": 1 / (i + 1), "nan": math.nan, "big": 2**60 + i, "word": "ü" * order["width"]})
    for i in range(order.get("system", 0)): trackio.log_system({"gpu": i / 7})
    for i in range(order.get("alerts", 0)): trackio.alert(title="careful", text="it rises", level=trackio.AlertLevel.WARN)
    for i in range(order.get("traces", 0)):
        trace = lambda n: trackio.Trace(messages=[{"role": "user", "content": str(n)}], metadata={"n": n})
        trackio.log({"one": trace(i), "some": [trace(0), trace(1)], "loss": i})
    print("logged", flush=True)
if isOpen: trackio.finish()
`;

export class Writer implements AsyncDisposable {
  readonly #folder: string;
  readonly #project: string;
  readonly #name: string;
  #process: PythonProcess | undefined;
  #runs = 0;

  /** `name` tells its runs from those of other writers of the project. */
  constructor(folder: string, project: string, name: string) {
    this.#folder = folder;
    this.#project = project;
    this.#name = name;
  }

  get pid(): number | undefined {
    return this.#process?.process.pid;
  }

  /** Logs some rows, now and then in another run. Rejects when it is killed meanwhile. */
  async log(seeded: Seeded): Promise<void> {
    const isNew = this.#process === undefined;
    this.#process ??= startPython(newest, this.#folder, program);
    await this.#process.ask(
      JSON.stringify({ ...(isNew || seeded.chance(0.15) ? this.#run(seeded) : {}), ...rows(seeded) }),
    );
  }

  async kill(): Promise<void> {
    await this.#process?.[Symbol.asyncDispose]();
    this.#process = undefined;
  }

  /** Lets it write what it still holds. */
  async end(): Promise<void> {
    await this.#process?.end();
    this.#process = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  /** A new run, or one of before that goes on, perhaps with another config. */
  #run(seeded: Seeded): object {
    const isNew = this.#runs === 0 || seeded.chance(0.6);
    if (isNew) this.#runs += 1;
    const number = isNew ? this.#runs : 1 + seeded.below(this.#runs);
    return {
      project: this.#project,
      run: `${this.#name}-${number}`,
      config: { lr: seeded.fraction(), names: ["a", "ü"] },
    };
  }
}

function rows(seeded: Seeded): object {
  return {
    rows: 1 + seeded.below(30),
    width: seeded.below(400),
    system: seeded.chance(0.3) ? 1 + seeded.below(5) : 0,
    alerts: seeded.chance(0.2) ? 1 : 0,
    traces: seeded.chance(0.2) ? 1 + seeded.below(3) : 0,
  };
}
