/** The part of the Dockerfile language that the emulator builds. */

export interface ImageSettings {
  env: Record<string, string>;
  workdir: string;
  entrypoint: string[];
}

export type Instruction =
  | { kind: "FROM"; tag: string }
  /** `script` goes to /bin/sh as a file or, with `argv`, the words are run as they are */
  | { kind: "RUN"; script: string; argv?: string[] }
  | { kind: "ENV"; text: string }
  | { kind: "WORKDIR"; path: string }
  | { kind: "ENTRYPOINT"; argv: string[] };

/** Words for the user's eyes: the build fails with them. */
export class DockerfileError extends Error {}

const ignored = new Set(["USER", "CMD", "LABEL", "EXPOSE", "MAINTAINER", "STOPSIGNAL", "HEALTHCHECK"]);

export function parseDockerfile(commands: readonly string[]): Instruction[] {
  const lines = commands.join("\n").split("\n");
  const instructions: Instruction[] = [];
  for (let index = 0; index < lines.length; ) {
    const line = lines[index++] as string;
    if (/^\s*(#.*)?$/.test(line)) continue;
    let text = line.trimStart();
    while (text.endsWith("\\") && index < lines.length) {
      const next = lines[index++] as string;
      if (!/^\s*#/.test(next)) text += `\n${next}`;
    }
    const heredocs: string[] = [];
    for (const [, dash, , word] of text.matchAll(/<<(-?)(["']?)([A-Za-z_]\w*)\2/g)) {
      const body: string[] = [];
      while (index < lines.length) {
        const next = lines[index++] as string;
        body.push(next);
        if ((dash ? next.replace(/^\t+/, "") : next) === word) break;
      }
      heredocs.push(body.join("\n"));
    }
    const instruction = instructionOf(text, heredocs);
    if (instruction) instructions.push(instruction);
  }
  return instructions;
}

function instructionOf(text: string, heredocs: readonly string[]): Instruction | undefined {
  const match = /^(\w+)(?:\s+([\s\S]*))?$/.exec(text);
  const word = match?.[1]?.toUpperCase() ?? "";
  const rest = (match?.[2] ?? "").trim();
  switch (word) {
    case "FROM":
      return { kind: "FROM", tag: rest.replace(/^--platform=\S+\s+/, "").split(/\s+/)[0] ?? "" };
    case "RUN":
      return runOf(rest, heredocs);
    case "ENV":
      return { kind: "ENV", text: rest.replaceAll("\\\n", " ") };
    case "WORKDIR":
      return { kind: "WORKDIR", path: rest };
    case "ENTRYPOINT":
      return { kind: "ENTRYPOINT", argv: wordsOf(rest) ?? ["/bin/sh", "-c", rest] };
    default:
      if (ignored.has(word)) return undefined;
      throw new DockerfileError(`the emulator does not build ${word}: ${text.split("\n")[0]}`);
  }
}

function runOf(rest: string, heredocs: readonly string[]): Instruction {
  if (rest.startsWith("--"))
    throw new DockerfileError(`the emulator does not build options of RUN: ${rest.split("\n")[0]}`);
  const argv = wordsOf(rest);
  if (argv) return { kind: "RUN", script: "", argv };
  // `RUN <<EOF` alone: its body is the script; otherwise the shell reads the heredoc itself
  if (/^<<-?["']?\w+["']?$/.test(rest)) return { kind: "RUN", script: heredocs.join("\n").replace(/\n?[^\n]*$/, "\n") };
  return { kind: "RUN", script: `${[rest, ...heredocs].join("\n")}\n` };
}

function wordsOf(text: string): string[] | undefined {
  if (!text.startsWith("[")) return undefined;
  try {
    const words: unknown = JSON.parse(text);
    return Array.isArray(words) ? words.map(String) : undefined;
  } catch {
    return undefined;
  }
}

/** ENV's two forms, with $NAME and ${NAME} of what was set before. */
export function parseEnv(text: string, before: Readonly<Record<string, string>>): Record<string, string> {
  const expand = (value: string) => value.replace(/\$(?:\{(\w+)\}|(\w+))/g, (_, a, b) => before[a ?? b] ?? "");
  const legacy = /^(\w+)\s+([^=]*)$/.exec(text);
  if (legacy) return { [legacy[1] as string]: expand(legacy[2] as string) };
  const values: Record<string, string> = {};
  for (const [, name, double, single, plain] of text.matchAll(
    /(\w+)=(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|((?:\\.|\S)*))/g,
  )) {
    const unescaped = (double ?? plain ?? "").replace(/\\(.)/g, "$1");
    values[name as string] = single ?? expand(unescaped);
  }
  return values;
}
