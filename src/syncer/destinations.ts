/**
 * Where metrics may go. The Space's name comes from the sandbox and decides where a token is sent, so only names that
 * the user allowed become addresses, and a token for Hugging Face leaves for hosts of Hugging Face alone.
 */
import type { Secret } from "../secret.ts";
import { HubApi } from "./hub/hub-api.ts";
import { HubError } from "./hub/hub-error.ts";
import { findSpace } from "./hub/spaces.ts";
import type { Inbox } from "./inbox.ts";
import { type Proof, ServerFailure, TrackioServer } from "./trackio-server.ts";

export interface DestinationRules {
  /** "owner/name", or "owner/*" for all Spaces of an owner; the first that is no pattern takes what names no Space */
  spaces: readonly string[];
  /** a self-hosted trackio server that takes everything, whatever the sandbox names */
  server?: string | undefined;
  hfToken?: Secret | undefined;
  writeToken?: Secret | undefined;
  /** address of a Space, with `{subdomain}` in it */
  spaceAddress?: string | undefined;
  /** origin of the Hub; another one than Hugging Face's in tests */
  hubUrl?: string | undefined;
}

export interface Destination {
  /** in the watermarks, and for people */
  name: string;
  server: TrackioServer;
  /** of a Space, when there is a token for it */
  inbox: Inbox | undefined;
}

const defaultSpaceAddress = "https://{subdomain}.hf.space/";

export class Destinations {
  readonly #rules: DestinationRules;
  readonly #inboxOf: (name: string, spaceId: string, hub: HubApi) => Inbox;
  readonly #made = new Map<string, Destination>();

  /** `inboxOf` makes the inbox of a Space, whose destination has a name. */
  constructor(rules: DestinationRules, inboxOf: (name: string, spaceId: string, hub: HubApi) => Inbox) {
    this.#rules = rules;
    this.#inboxOf = inboxOf;
  }

  /** For a project whose Space the sandbox named, or not. A string says why there is none. */
  for(spaceId: string | undefined): Destination | string {
    const { server, spaces } = this.#rules;
    if (server !== undefined) return this.#make(server, () => ({ server: this.#selfHosted(server), inbox: undefined }));
    const wanted = spaceId ?? spaces.find((space) => !space.endsWith("/*"));
    if (wanted === undefined) return "no Space is named for it";
    // the name goes into messages: only a plain one does
    if (!isSpaceId(wanted)) return "the name of its Space is not of the form owner/name";
    const [owner] = wanted.split("/");
    const isAllowed = spaces.some((space) => space.toLowerCase() === wanted.toLowerCase() || space === `${owner}/*`);
    if (!isAllowed) return `the Space ${wanted} is not allowed`;
    const name = wanted.toLowerCase();
    return this.#make(name, () => ({ server: spaceServer(wanted, this.#rules), inbox: this.#inbox(name, wanted) }));
  }

  #inbox(name: string, spaceId: string): Inbox | undefined {
    const { hfToken: token, hubUrl } = this.#rules;
    return token && this.#inboxOf(name, spaceId, new HubApi({ token, hubUrl }));
  }

  #make(name: string, parts: () => Omit<Destination, "name">): Destination {
    const made = this.#made.get(name) ?? { name, ...parts() };
    this.#made.set(name, made);
    return made;
  }

  #selfHosted(address: string): TrackioServer {
    const { writeToken } = this.#rules;
    const proof: Proof = writeToken ? { kind: "write-token", token: writeToken } : { kind: "none" };
    const base = new URL(address);
    if (!base.pathname.endsWith("/")) base.pathname += "/";
    return new TrackioServer(base, proof);
  }
}

/** Whether a trackio server answers at a Space's address now. */
export async function isTrackio(spaceId: string, rules: DestinationRules): Promise<boolean> {
  return await spaceServer(spaceId, rules)
    .probe()
    .then(
      () => true,
      () => false,
    );
}

function spaceServer(
  spaceId: string,
  { spaceAddress = defaultSpaceAddress, hfToken, hubUrl }: DestinationRules,
): TrackioServer {
  const subdomain = subdomainOf(spaceId);
  const base = new URL(spaceAddress.replace("{subdomain}", subdomain));
  if (!hfToken) return new TrackioServer(base, { kind: "none" });
  const confirm = async () => {
    // an address for one Space alone, in tests
    if (!spaceAddress.includes("{subdomain}")) return;
    await confirmSubdomain(spaceId, subdomain, new HubApi({ token: hfToken, hubUrl }));
  };
  return new TrackioServer(base, { kind: "bearer", token: hfToken }, confirm);
}

/** Two names can make one subdomain: acme-labs/x and acme/labs-x. The Hub says whose it is. */
async function confirmSubdomain(spaceId: string, subdomain: string, hub: HubApi): Promise<void> {
  const space = await findSpace(hub, spaceId).catch((error: unknown) => {
    if (!(error instanceof HubError)) throw error;
    throw new ServerFailure(error.isTemporary ? "later" : "blocked", error.message);
  });
  if (!space) throw new ServerFailure("blocked", `Hugging Face knows no Space ${spaceId}`);
  if (space.subdomain === subdomain) return;
  throw new ServerFailure("blocked", `the Space ${spaceId} is not at the address that its name makes`);
}

export function isSpaceId(text: string): boolean {
  return /^[A-Za-z0-9][\w-]{0,95}\/[A-Za-z0-9][\w.-]{0,95}$/.test(text);
}

/** What Hugging Face calls a Space's host, mostly (huggingface_hub and trackio form it the same way). */
function subdomainOf(spaceId: string): string {
  return spaceId.toLowerCase().replace(/[/_.]/g, "-");
}
