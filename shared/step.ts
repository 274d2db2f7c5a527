import type * as v from "valibot";
import { version } from "../package.json";
import { codeOf, StatusError } from "./errors.ts";
import { parseRequest } from "./request.ts";
import type { RequestSchema } from "./schema.ts";
import { type CommandLine, usage } from "./usage.ts";

/** A shorter text is part of ordinary words. */
const LEAST_HIDDEN = 8;

/** A request that takes longer to come may be waited for at a terminal. */
const LATE_MS = 100;

/** What a step is given besides its request. */
export interface StepContext {
  /** The folder that Concourse names on the command line; empty for check. */
  folder: string;
  /** Tells the user something that does not fail the step: one line on stderr. */
  warn: (message: string) => void;
  /** Tells how the work goes, of a source that asks for it: one line on stderr. */
  debug: (message: string) => void;
  /** Keeps a text out of whatever is told from now on. */
  hide: (text: string) => void;
  /** Whether only the newest value is wanted, alone on stdout (`--value`). */
  valueOnly: boolean;
  /** Registers what to do before a first signal ends the step, and whose line goes to stderr; it must end by itself, within 5 s. */
  atSignal: (settle: (() => Promise<string>) | undefined) => void;
}

/** One of the three executables. */
export interface Step<Schema extends RequestSchema> extends CommandLine {
  request: Schema;
  run: (request: v.InferOutput<Schema>, context: StepContext) => Promise<unknown>;
}

/**
 * Runs one executable: its request from stdin, its answer to stdout. A failure leaves stdout empty, tells
 * each trouble in one line on stderr and makes the exit status 1.
 */
export async function runStep<Schema extends RequestSchema>(step: Step<Schema>): Promise<void> {
  // The first process of a container ignores the signals that it does not handle.
  let settle: (() => Promise<string>) | undefined;
  const end = async (number: number) => {
    const settling = settle?.();
    settle = undefined;
    if (settling) tell(await settling);
    process.exit(128 + number);
  };
  for (const [signal, number] of Object.entries({ SIGINT: 2, SIGTERM: 15 })) {
    process.on(signal, () => void end(number));
  }
  const hidden = new Set<string>();
  const hide = (text: unknown) => {
    if (typeof text === "string" && text.length >= LEAST_HIDDEN) hidden.add(text);
  };
  const told = new Set<string>();
  const tell = (message: string) => {
    const line = [...hidden]
      .reduce((shown, text) => shown.replaceAll(text, "***"), message)
      .replace(/\p{Cc}+/gu, " ");
    // Not console.error, which colours its lines where a CI system asks for colours.
    if (!told.has(line)) console.warn(line);
    told.add(line);
  };
  const warn = (message: string) => tell(`warning: ${message}`);
  const debug = (message: string) => console.warn(`debug: ${message}`);
  try {
    const [, , ...words] = process.argv;
    if (words.includes("--help") || words.includes("-h")) return await write(usage(step));
    if (words.includes("--version")) return await write(`${version}\n`);
    const folder = folderOf(step, words);
    const document = await readDocument(step);
    for (const secret of secretsOf(document)) hide(secret);
    const request = parseRequest(step.request, document);
    const answer = await step.run(request, {
      folder,
      hide,
      warn,
      debug,
      valueOnly: false,
      atSignal: (next) => {
        settle = next;
      },
    });
    await write(`${JSON.stringify(answer)}\n`);
  } catch (error) {
    for (const one of error instanceof AggregateError ? error.errors : [error]) {
      tell(one instanceof Error ? one.message : String(one));
    }
    // Another request may still be under way, and nobody waits for its answer.
    process.exit(error instanceof StatusError ? error.exitStatus : 1);
  }
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

function showUsageInTerminal(step: CommandLine): void {
  const { isatty } = process.getBuiltinModule("node:tty");
  if (!isatty(0)) return;
  console.warn(usage(step));
  process.exit(1);
}

async function readDocument(step: CommandLine): Promise<unknown> {
  // To ask at once whether it is a terminal would cost every step some milliseconds.
  const late = setTimeout(showUsageInTerminal, LATE_MS, step);
  let bytes;
  try {
    bytes = await Bun.stdin.bytes();
  } catch (cause) {
    throw new Error(`request: stdin cannot be read: ${codeOf(cause)}`, { cause });
  } finally {
    clearTimeout(late);
  }
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

/** What no line on stderr may show, as far as it is known from the start. */
function secretsOf(document: unknown): unknown[] {
  const { source, params, version: known } = Object(document);
  const { access_key, secret_key, session_token } = Object(source);
  const { value, web_identity_token } = Object(params);
  const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN } = process.env;
  const given = [access_key, secret_key, session_token, web_identity_token, value, Object(known).value];
  return [...given, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN];
}
