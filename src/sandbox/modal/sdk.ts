/** Modal's own package, proven to be it, loaded when it is first needed, and pointed to the user's account. */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { App, ModalClient } from "modal";
import { messageOf, SandboxError } from "../../errors.ts";
import { callWatcher, within } from "./calls.ts";
import { isNamed, modalError, unusableCredentials, wordsOf } from "./modal-error.ts";
import { settingsOfSdk } from "./sdk-environment.ts";

type Sdk = typeof import("modal");

/** The version whose calls this provider was written for: another may ask for other ones. */
const sdkVersion = "0.11.1";
/** npm's newest "modal" is a stranger's: a window for web pages */
const sdkRepository = /"(?:git\+)?https:\/\/github\.com\/modal-labs\//;
/** how long a call goes on when Modal asks to be called later, in seconds; without it the SDK would wait for ever */
const maxThrottleWaitSecs = 60;
const answerMs = 60_000;

export interface ModalOptions {
  /** app that the sandboxes belong to; made when missing */
  app: string;
  /** environment of the workspace; undefined: the profile's own */
  environment?: string;
  /** sandboxes that may be made in an hour */
  creationsPerHour: number;
  /** false: Modal's older backend, also for sandboxes without a GPU */
  sandboxesV2?: boolean;
}

/** An account of Modal, with the app that everything of ours belongs to. */
export interface Account {
  sdk: Sdk;
  client: ModalClient;
  app(): Promise<App>;
  appName: string;
}

/** Why the package that `import("modal")` would load is not Modal's; undefined when it is. */
export function strangeSdk(): string | undefined {
  try {
    return strangenessOf(JSON.parse(readFileSync(packageFile(), "utf8")) as Manifest);
  } catch (error) {
    return `the package "modal" is not installed: ${messageOf(error)}`;
  }
}

interface Manifest {
  name?: unknown;
  version?: unknown;
  repository?: unknown;
}

/** The same, for what its package.json says. */
export function strangenessOf({ name, version, repository }: Manifest): string | undefined {
  const source = JSON.stringify(repository ?? "nowhere");
  if (name !== "modal" || !sdkRepository.test(source)) return `the package "modal" is not Modal's, but from ${source}`;
  if (version !== sdkVersion) return `the package "modal" has version ${version}, and ${sdkVersion} is needed`;
  return undefined;
}

export const sdkRemedy = `npm install --save-exact modal@${sdkVersion}`;

/** Loads the SDK and makes a client; no call is made. */
export async function openAccount(
  options: ModalOptions,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<Account> {
  const strange = strangeSdk();
  if (strange !== undefined)
    throw new SandboxError(`Sandboxes on Modal cannot be used: ${strange}`, { hint: sdkRemedy });
  const sdk = await loadSdk(environment);
  const client = openClient(sdk, options, environment);
  let app: Promise<App> | undefined;
  return {
    sdk,
    client,
    appName: options.app,
    app() {
      app ??= within(answerMs, "for its app", () =>
        client.apps.fromName(options.app, {
          createIfMissing: true,
          ...(options.environment !== undefined && { environment: options.environment }),
        }),
      ).catch((error: unknown) => {
        app = undefined;
        throw modalError(error, `find the app "${options.app}"`);
      });
      return app;
    },
  };
}

let loading: Promise<Sdk> | undefined;

/** The file of profiles is read when the package is, once a process. */
function loadSdk(environment: Readonly<Record<string, string | undefined>>): Promise<Sdk> {
  loading ??= (async () => {
    using _settings = settingsOfSdk(environment);
    return await import("modal");
  })();
  return loading;
}

function openClient(
  sdk: Sdk,
  options: ModalOptions,
  environment: Readonly<Record<string, string | undefined>>,
): ModalClient {
  using _settings = settingsOfSdk({
    ...environment,
    ...(options.sandboxesV2 !== undefined && { MODAL_SANDBOX_V2: options.sandboxesV2 ? "1" : "0" }),
  });
  try {
    return new sdk.ModalClient({
      ...(options.environment !== undefined && { environment: options.environment }),
      ...(environment["MODAL_MAX_THROTTLE_WAIT"] === undefined && { maxThrottleWaitSecs }),
      grpcMiddleware: [callWatcher],
      logger: silent,
    });
  } catch (error) {
    throw isNamed(error, "InvalidError") ? unusableCredentials(wordsOf(error)) : modalError(error, "be used");
  }
}

/** Whether the account has a token or a login. The SDK itself notices with the first call, by an error without class or code. */
export function hasCredentials({ client }: Account): boolean {
  const { tokenId, tokenSecret, oauthRefreshToken } = client.profile;
  return Boolean((tokenId && tokenSecret) || oauthRefreshToken);
}

/** The SDK's log is for those who work on it: what a user must know comes as an error. */
const silent = { debug() {}, info() {}, warn() {}, error() {} };

function packageFile(): string {
  for (let folder = dirname(fileURLToPath(import.meta.resolve("modal"))); folder !== "/"; folder = dirname(folder)) {
    if (folder.endsWith("/modal")) return join(folder, "package.json");
  }
  throw new Error("no package.json");
}
