import type { AddressInfo } from "node:net";
import dynalite from "dynalite";

/** A DynamoDB to test against. */
export interface Engine {
  endpoint: string;
}

/** Starts the embedded engine, in memory, on a free port of the loopback interface; it ends with the process. */
export async function startDynalite(): Promise<Engine> {
  const server = dynalite({ createTableMs: 0, updateTableMs: 0, deleteTableMs: 0 });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  server.unref();
  return { endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

// As a program of its own, it says where it listens, and ends with whoever started it.
if (import.meta.main) {
  console.log((await startDynalite()).endpoint);
  await Bun.stdin.text();
  process.exit();
}
