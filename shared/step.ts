import * as v from "valibot";
import { version } from "../package.json";
import { fieldsOf, parseRequest, type RequestSchema } from "./schema.ts";

/** What a step is given besides its request. */
export interface Surroundings {
  /** The folder that Concourse names on the command line; empty for check. */
  folder: string;
  /** Tells the user something that does not fail the step: one line on stderr. */
  warn: (message: string) => void;
}

/** How one of the three executables is called. */
interface CommandLine {
  name: "check" | "in" | "out";
  /** What it does, in one sentence. */
  summary: string;
  /** What the usage calls the folder on the command line; absent where there is none. */
  folder?: string;
  request: RequestSchema;
}

/** One of the three executables. */
export interface Step<Schema extends RequestSchema> extends CommandLine {
  request: Schema;
  run: (request: v.InferOutput<Schema>, surroundings: Surroundings) => Promise<unknown>;
}

/**
 * Runs one executable: its request from stdin, its answer to stdout. A failure leaves stdout empty, tells
 * each trouble in one line on stderr and makes the exit status 1.
 */
export async function runStep<Schema extends RequestSchema>(step: Step<Schema>): Promise<void> {
  // The first process of a container ignores the signals that it does not handle.
  for (const [signal, number] of Object.entries({ SIGINT: 2, SIGTERM: 15 })) {
    process.on(signal, () => process.exit(128 + number));
  }
  let secrets: string[] = [];
  const told = new Set<string>();
  const tell = (message: string) => {
    const line = oneLine(secrets.reduce(blank, message));
    if (!told.has(line)) console.error(line);
    told.add(line);
  };
  try {
    const [, , ...words] = process.argv;
    if (words.includes("--help") || words.includes("-h")) return await write(usage(step));
    if (words.includes("--version")) return await write(`${version}\n`);
    const folder = folderOf(step, words);
    if (await isTerminal()) throw new Error(usage(step));
    const document = await readDocument();
    secrets = secretsOf(document);
    const request = parseRequest(step.request, document);
    const answer = await step.run(request, { folder, warn: (message) => tell(`warning: ${message}`) });
    await write(`${JSON.stringify(answer)}\n`);
  } catch (error) {
    for (const line of messageOf(error).trimEnd().split("\n")) tell(line);
    // Another request may still be under way, and nobody waits for its answer.
    process.exit(1);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function write(text: string): Promise<void> {
  await Bun.write(Bun.stdout, text);
}

function folderOf(step: CommandLine, words: string[]): string {
  const option = words.find((word) => word.startsWith("-"));
  if (option !== undefined)
    throw new Error(`${step.name} knows no option ${option}; try ${step.name} --help`);
  const [folder = "", ...others] = words;
  const isRight = step.folder === undefined ? words.length === 0 : folder !== "" && others.length === 0;
  if (isRight) return folder;
  const wanted = step.folder === undefined ? "nothing" : `one folder (${step.folder})`;
  throw new Error(
    `${step.name} takes ${wanted} on the command line, and its request on stdin; try ${step.name} --help`,
  );
}

/** node:tty costs several milliseconds, so it is asked only about what may be a terminal. */
async function isTerminal(): Promise<boolean> {
  const stat = await Bun.stdin.stat();
  return stat.isCharacterDevice() && (await import("node:tty")).isatty(0);
}

async function readDocument(): Promise<unknown> {
  const bytes = await Bun.stdin.bytes();
  if (bytes.length === 0) throw new Error("request: stdin is empty; a JSON document is needed");
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new Error("request: stdin is not UTF-8", { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    // The parser's own message quotes its input, which has secrets in it.
    throw new Error("request: stdin is not one JSON document", { cause });
  }
}

function secretsOf(document: unknown): string[] {
  const source = Object(Object(document).source);
  return [source.secret_key, source.session_token, source.access_key].filter(
    (secret) => typeof secret === "string" && secret.length >= 8,
  );
}

function blank(message: string, secret: string): string {
  return message.replaceAll(secret, "***");
}

function oneLine(message: string): string {
  return message.replace(/\p{Cc}+/gu, " ");
}

function usage(step: CommandLine): string {
  const folder = step.folder === undefined ? "" : ` ${step.folder}`;
  const lines = [`${step.name}: ${step.summary}`, "", `usage: ${step.name}${folder} < request.json`];
  for (const [part, fields] of Object.entries(fieldsOf(step.request))) {
    lines.push("", `${part}:`);
    for (const [name, field] of Object.entries(fields)) {
      const required = field.type === "nullish" || field.type === "optional" ? "" : " (required)";
      lines.push(`  ${name.padEnd(15)} ${v.getDescription(field)}${required}`);
    }
  }
  lines.push(
    "",
    "exit status: 0 with the answer, one JSON document, on stdout; 1 with the reason on stderr",
    "",
  );
  return lines.join("\n");
}
