import { askedGpu, type Backend, type Cloud, run } from "./cloud.ts";
import { outcomeOf, question } from "./question.ts";

interface Claims {
  exp?: number;
  iat?: number;
  container_id?: string;
  function_name?: string;
  [claim: string]: unknown;
}

question(
  7,
  async ({ cloud, answer }) => {
    for (const backend of ["v1", "v2"] as const) {
      answer(`${backend.toUpperCase()}: ${await outcomeOf(() => identity(cloud, backend))}`);
    }
  },
  { notEmulated: "it issues no identity tokens" },
);

/** The names of the claims; the token and the workspace's ids are not told. */
async function identity(cloud: Cloud, backend: Backend): Promise<string> {
  const sandbox = await cloud.make(backend, {
    ...(backend === "v1" && askedGpu()),
    includeOidcIdentityToken: true,
  });
  const token = (await run(sandbox, ["printenv", "MODAL_IDENTITY_TOKEN"])).stdout.trim();
  if (token === "") return "there is no MODAL_IDENTITY_TOKEN";
  const taskId = (await run(sandbox, ["printenv", "MODAL_TASK_ID"])).stdout.trim();
  const claims = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString()) as Claims;
  const { exp = 0, iat = 0, container_id, function_name } = claims;
  const hasSandbox = Object.values(claims).some((value) => String(value).includes(sandbox.sandboxId));
  return (
    `claims ${Object.keys(claims).sort().join(" ")}; valid for ${exp - iat} s; container_id is ` +
    `${container_id === taskId ? "" : "not "}MODAL_TASK_ID; function_name is "${function_name}"; ` +
    `the sandbox's id is ${hasSandbox ? "" : "not "}in it`
  );
}
