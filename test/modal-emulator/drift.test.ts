/** The emulator's proto files against the definitions in the installed SDK, which it does not export. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { pathToFileURL } from "node:url";
import type { GrpcObject, MethodDefinition, ServiceClientConstructor } from "@grpc/grpc-js";
import { loadProtos } from "./rpc.ts";

interface Field {
  number: number;
  name: string;
  /** scalar kind, "message", or "enum" as the int32 that it is on the wire */
  kind: string;
  message?: Message;
}
type Message = () => { name: string; fields: Map<number, Field> };
interface Method {
  requestStream: boolean;
  responseStream: boolean;
  request: Message;
  response: Message;
}

const modules = join(import.meta.dirname, "../../node_modules");
mkdirSync(join(modules, ".cache"), { recursive: true });
const scratch = mkdtempSync(join(modules, ".cache/modal-drift-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

interface SdkType {
  encode(): unknown;
}
interface SdkMethod {
  name: string;
  requestType: SdkType;
  requestStream: boolean;
  responseType: SdkType;
  responseStream: boolean;
}
interface SdkDefinition {
  fullName: string;
  methods: Record<string, SdkMethod>;
}

/** A copy of the SDK that exports what is in it; beside its dependencies, so that it finds them. */
async function sdkMethods(): Promise<Map<string, Method>> {
  const copy = join(scratch, "modal.mjs");
  const exported =
    "export { ModalClientDefinition, TaskCommandRouterDefinition };\nexport const lookUp = (name) => eval(name);\n";
  writeFileSync(copy, `${readFileSync(join(modules, "modal/dist/index.js"), "utf8")}\n${exported}`);
  const sdk = (await import(pathToFileURL(copy).href)) as {
    ModalClientDefinition: SdkDefinition;
    TaskCommandRouterDefinition: SdkDefinition;
    lookUp(name: string): SdkType;
  };
  const message = (type: SdkType, name: string): Message => {
    return () => ({ name, fields: sdkFields(type, (found) => message(sdk.lookUp(found), found)) });
  };
  const methods = new Map<string, Method>();
  for (const { fullName, methods: all } of [sdk.ModalClientDefinition, sdk.TaskCommandRouterDefinition])
    for (const method of Object.values(all))
      methods.set(`/${fullName}/${method.name}`, {
        ...{ requestStream: method.requestStream, responseStream: method.responseStream },
        request: message(method.requestType, `request of ${method.name}`),
        response: message(method.responseType, `response of ${method.name}`),
      });
  return methods;
}

/** Read from the text of the function that writes a message: each field is written as a tag and a value. */
function sdkFields(type: SdkType, message: (name: string) => Message): Map<number, Field> {
  const text = type.encode.toString();
  const fields = new Map<number, Field>();
  const written =
    /(?:(\w+)\.encode\((?:(?!\.encode\().)*?)?writer\.uint32\((\d+)\)\.(?:fork\(\);\s*for \(const v of message\.\w+\) \{\s*writer\.)?(\w+)\(/gs;
  for (const match of text.matchAll(written)) {
    const number = Number(match[2]) >>> 3;
    const until = text.slice(0, match.index + match[0].length + 40).replace(/\)[^)]*$/, "");
    const name = [...until.matchAll(/message\.(\w+)/g)].at(-1)?.[1] ?? "";
    if (match[3] === "fork") fields.set(number, { number, name, kind: "message", message: message(match[1] ?? "") });
    else fields.set(number, { number, name, kind: match[3] ?? "" });
  }
  return fields;
}

interface Descriptor {
  name: string;
  field: { number: number; name: string; type: string; typeName: string }[];
  nestedType: Descriptor[];
}

function protoMethods(): Map<string, Method> {
  const protos = loadProtos();
  const types = new Map<string, Descriptor>();
  collect(protos, "", types);
  const message = (descriptor: Descriptor, scope: string): Message => {
    return () => ({ name: descriptor.name, fields: protoFields(descriptor, scope, types, message) });
  };
  const methods = new Map<string, Method>();
  const modal = protos["modal"] as Record<string, Record<string, ServiceClientConstructor>>;
  for (const [scope, name] of [
    ["client", "ModalClient"],
    ["task_command_router", "TaskCommandRouter"],
  ] as const)
    for (const method of Object.values(modal[scope]?.[name]?.service ?? {}) as MethodDefinition<object, object>[]) {
      const { requestType, responseType } = method as unknown as Record<string, { type: Descriptor }>;
      methods.set(method.path, {
        ...{ requestStream: method.requestStream, responseStream: method.responseStream },
        request: message(requestType?.type as Descriptor, `modal.${scope}`),
        response: message(responseType?.type as Descriptor, `modal.${scope}`),
      });
    }
  return methods;
}

/** Full name → descriptor. */
function collect(object: GrpcObject, prefix: string, types: Map<string, Descriptor>): void {
  for (const [name, value] of Object.entries(object)) {
    const path = prefix ? `${prefix}.${name}` : name;
    if ("format" in value) addType((value as unknown as { type: Descriptor }).type, path, types);
    else if (typeof value !== "function") collect(value as GrpcObject, path, types);
  }
}

function addType(descriptor: Descriptor, path: string, types: Map<string, Descriptor>): void {
  types.set(path, descriptor);
  for (const nested of descriptor.nestedType ?? []) addType(nested, `${path}.${nested.name}`, types);
}

function protoFields(
  descriptor: Descriptor,
  scope: string,
  types: Map<string, Descriptor>,
  message: (descriptor: Descriptor, scope: string) => Message,
): Map<number, Field> {
  const own = [...types].find(([, known]) => known === descriptor)?.[0] ?? `${scope}.${descriptor.name}`;
  return new Map(
    descriptor.field.map(({ number, name, type, typeName }) => {
      const kind = type.replace("TYPE_", "").toLowerCase();
      if (kind !== "message") return [number, { number, name, kind: kind === "enum" ? "int32" : kind }];
      const outer = own.split(".");
      const candidates = outer.map((_, index) => [...outer.slice(0, outer.length - index), typeName].join("."));
      const found = [typeName.replace(/^\./, ""), ...candidates].find((path) => types.has(path));
      assert.ok(found, `${own} names ${typeName}, which is not in the proto files`);
      const inner = types.get(found) as Descriptor;
      return [number, { number, name, kind, message: message(inner, found.split(".").slice(0, -1).join(".")) }];
    }),
  );
}

/** What differs, in words. */
function differences(path: string, ours: Message, theirs: Message, seen: Set<string>): string[] {
  const mine = ours();
  const sdk = theirs();
  if (seen.has(`${mine.name} ${sdk.name}`)) return [];
  seen.add(`${mine.name} ${sdk.name}`);
  const found: string[] = [];
  for (const number of new Set([...mine.fields.keys(), ...sdk.fields.keys()])) {
    const [a, b] = [mine.fields.get(number), sdk.fields.get(number)];
    const where = `${path}: ${mine.name} field ${number}`;
    if (!a || !b) found.push(`${where} (${(a ?? b)?.name}) is only in ${a ? "the proto files" : "the SDK"}`);
    else if (a.kind !== b.kind) found.push(`${where} is ${a.kind} in the proto files, ${b.kind} in the SDK`);
    else if (plain(a.name) !== plain(b.name))
      found.push(`${where} is ${a.name} in the proto files, ${b.name} in the SDK`);
    else if (a.message && b.message) found.push(...differences(path, a.message, b.message, seen));
  }
  return found;
}

function plain(name: string): string {
  // the fields of a map's entry have no name in the SDK's text
  return name.replaceAll("_", "").toLowerCase();
}

test("the proto files say what the installed SDK says", async () => {
  const sdk = await sdkMethods();
  const ours = protoMethods();
  assert.ok(ours.size > 40, `only ${ours.size} methods were found`);
  const found: string[] = [];
  const seen = new Set<string>();
  for (const [path, method] of ours) {
    const theirs = sdk.get(path);
    if (!theirs) {
      found.push(`${path} is not in the SDK`);
      continue;
    }
    for (const flag of ["requestStream", "responseStream"] as const)
      if (method[flag] !== theirs[flag]) found.push(`${path}: ${flag} differs`);
    found.push(...differences(path, method.request, theirs.request, seen));
    found.push(...differences(path, method.response, theirs.response, seen));
  }
  assert.deepEqual(found, []);
});
