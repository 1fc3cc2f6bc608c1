/**
 * The emulator as a process: one line of JSON with the clients' environment, then it runs until stdin ends or SIGTERM. An
 * argument, if any, is EmulatorOptions as JSON.
 */
import { once } from "node:events";
import { startEmulator } from "./emulator.ts";

const emulator = await startEmulator(JSON.parse(process.argv[2] ?? "{}"));
console.log(JSON.stringify(emulator.environment));
process.stdin.resume();
await Promise.race([once(process.stdin, "end"), once(process, "SIGTERM"), once(process, "SIGINT")]);
await emulator[Symbol.asyncDispose]();
process.exit(0);
