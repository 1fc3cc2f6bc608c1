/** `npm run bench -- [area…] [--json]`: prints the areas' figures; exit code 1 when a goal is missed. */
import { parseArgs } from "node:util";
import type { Figures } from "./measure.ts";
import { benchMetrics } from "./metrics/index.ts";
import { benchModal } from "./modal/index.ts";
import { benchProxy } from "./proxy/index.ts";
import { benchStart, machine } from "./start.ts";

const areas: Record<string, () => Promise<Figures>> = {
  start: benchStart,
  proxy: benchProxy,
  metrics: benchMetrics,
  modal: benchModal,
};
const signs = { ceiling: "≤", floor: "≥" };

const { values, positionals } = parseArgs({
  options: { json: { type: "boolean", default: false } },
  allowPositionals: true,
});
const asked = positionals.length > 0 ? positionals : Object.keys(areas);
const unknown = asked.find((name) => !(name in areas));
if (unknown !== undefined) {
  console.error(`error: unknown area "${unknown}"; the areas are ${Object.keys(areas).join(", ")}`);
  process.exit(2);
}
const figures: Figures = {};
for (const name of asked) Object.assign(figures, await areas[name]?.());
if (values.json) console.log(JSON.stringify(figures, null, 2));
else {
  console.log(`${machine()}\n`);
  console.log("| figure | value | goal | holds |\n| --- | --- | --- | --- |");
  for (const [name, { value, unit, goal, bound, holds }] of Object.entries(figures)) {
    console.log(
      `| ${name} | ${value} ${unit} | ${bound === null ? "" : `${signs[bound]} ${goal}`} | ${holds === null ? "" : holds ? "yes" : "NO"} |`,
    );
  }
}
process.exit(Object.values(figures).some(({ holds }) => holds === false) ? 1 : 0);
