import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const systemBundle = "/etc/ssl/certs/ca-certificates.crt";
const validity = ["-days", "30"];

interface Certificate {
  cert: Buffer;
  key: Buffer;
}

/** A certificate authority of openssl in a folder, with a certificate for every name that is asked for. */
export class Certificates {
  readonly #folder: string;
  readonly #key: Buffer;
  readonly #issued = new Map<string, Promise<Certificate>>();

  private constructor(folder: string, key: Buffer) {
    this.#folder = folder;
    this.#key = key;
  }

  static async create(folder: string): Promise<Certificates> {
    await mkdir(folder, { recursive: true });
    const [ca, caKey, key] = ["ca.pem", "ca.key", "site.key"].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ];
    await Promise.all([makeKey(caKey), makeKey(key)]);
    await run("openssl", [
      ...["req", "-x509", "-new", "-key", caKey, "-out", ca, ...validity, "-subj", "/CN=CA of the Modal emulator"],
      ...["-addext", "keyUsage=critical,keyCertSign,cRLSign"],
    ]);
    const system = existsSync(systemBundle) ? await readFile(systemBundle, "utf8") : "";
    await writeFile(join(folder, "bundle.pem"), `${system}\n${await readFile(ca, "utf8")}`);
    return new Certificates(folder, await readFile(key));
  }

  get caPath(): string {
    return join(this.#folder, "ca.pem");
  }

  /** the system's authorities and this one */
  get bundlePath(): string {
    return join(this.#folder, "bundle.pem");
  }

  /** `name`: of a host, already checked to be one. */
  issue(name: string): Promise<Certificate> {
    const issued = this.#issued.get(name) ?? this.#sign(name);
    this.#issued.set(name, issued);
    return issued;
  }

  async #sign(name: string): Promise<Certificate> {
    const { stdout } = await run("openssl", [
      ...["req", "-x509", "-new", "-key", join(this.#folder, "site.key"), ...validity, "-subj", "/O=Modal emulator"],
      ...["-CA", this.caPath, "-CAkey", join(this.#folder, "ca.key")],
      ...["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=serverAuth"],
      ...["-addext", `subjectAltName=critical,DNS:${name}`],
    ]);
    return { cert: Buffer.from(stdout), key: this.#key };
  }
}

async function makeKey(path: string): Promise<void> {
  await run("openssl", ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path]);
}
