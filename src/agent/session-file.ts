/** Which of claude's conversations is this session's: claude's id changes with /clear, so it is kept on the data volume. */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";

export class SessionFile {
  readonly #folder: string;
  #claudeSessionId: string | undefined;

  constructor(folder: string) {
    this.#folder = folder;
    mkdirSync(folder, { recursive: true });
    this.#claudeSessionId = readId(join(folder, "session.json"));
  }

  get claudeSessionId(): string | undefined {
    return this.#claudeSessionId;
  }

  /** True when claude has a transcript to resume from. */
  canResume(): boolean {
    const projects = join(this.#folder, "claude/projects");
    if (this.#claudeSessionId === undefined || !existsSync(projects)) return false;
    return readdirSync(projects).some((name) => existsSync(join(projects, name, `${this.#claudeSessionId}.jsonl`)));
  }

  /** Remembers claude's id, on disk when it is new. Throws when the disk refuses. */
  remember(claudeSessionId: string | undefined): void {
    if (claudeSessionId === this.#claudeSessionId) return;
    this.#claudeSessionId = claudeSessionId;
    const path = join(this.#folder, "session.json");
    const fd = openSync(`${path}.new`, "w", 0o600);
    try {
      writeSync(fd, JSON.stringify({ claudeSessionId }));
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(`${path}.new`, path);
  }
}

function readId(path: string): string | undefined {
  try {
    return (JSON.parse(readFileSync(path, "utf8")) as { claudeSessionId?: string }).claudeSessionId;
  } catch {
    // a new session, or a file that a power cut left empty: the conversation then starts anew, and says so
    return undefined;
  }
}
