import type * as v from "valibot";
import { version } from "../package.json";
import { codeOf, StatusError } from "./errors.ts";
import { mistakeIn } from "./json.ts";
import { parseRequest, secretsOf } from "./request.ts";
import type { RequestSchema } from "./schema.ts";
import { openStderr } from "./stderr.ts";
import { type CommandLine, usage } from "./usage.ts";

/** A request that takes longer to come may be waited for at a terminal. */
const TERMINAL_CHECK_MS = 100;

const MOST_BYTES = 16 * 1024 * 1024;

const CLOSE_ON_EXEC = 0o2000000;

/** What a step is given besides its request. */
export interface StepContext {
  /** The directory that Concourse names on the command line; empty for check. */
  folder: string;
  /** Tells the user something that does not fail the step: one line on stderr. */
  warn: (message: string) => void;
  /** Tells the user what came of the step: one line on stderr. */
  tell: (message: string) => void;
  /** Tells how the work goes, of a source that asks for it: one line on stderr. */
  debug: (message: string) => void;
  /** Keeps a key or a token out of every line on stderr from now on. */
  hideSecret: (secret: string | undefined) => void;
  /** Keeps a value out of every line on stderr from now on, but where the line is about it. */
  hideValue: (value: string) => void;
  /** Whether only the newest value is wanted, alone on stdout (`--value`). */
  valueOnly: boolean;
  /** Registers what to do before a first signal ends the step, and whose line goes to stderr; it must end by itself, within 5 s. */
  atSignal: (settle: () => Promise<string>) => void;
}

/** One of the three executables. */
export interface Step<Schema extends RequestSchema, Answer> extends CommandLine {
  request: Schema;
  run: (request: v.InferOutput<Schema>, context: StepContext) => Promise<Answer>;
  /** The value in an answer, for `--value`; absent where there is no such option. */
  valueIn?: (answer: Answer) => string;
  /** What is true although the answer could not be written; undefined where nothing is stored. */
  undelivered?: (answer: Answer, request: v.InferOutput<Schema>) => string | undefined;
}

/**
 * Runs one executable: its request from stdin, its answer to stdout. A failure leaves stdout empty, tells each mistake
 * in one line on stderr and sets the exit status.
 */
export async function runStep<Schema extends RequestSchema, Answer>(
  step: Step<Schema, Answer>,
): Promise<void> {
  const stderr = openStderr();
  let settle: (() => Promise<string>) | undefined;
  const end = async (number: number) => {
    const settling = settle?.();
    settle = undefined;
    if (settling) stderr.tell(await settling);
    process.exit(128 + number);
  };
  // The first process of a container ignores the signals that it does not handle.
  for (const [signal, number] of Object.entries({ SIGINT: 2, SIGTERM: 15 })) {
    process.on(signal, () => void end(number));
  }
  if (step.undelivered) void endAtHangup(end);
  const warn = (message: string) => stderr.tell(`warning: ${message}`);
  const debug = (message: string) => stderr.tell(`debug: ${message}`, { always: true });
  try {
    const [, , ...words] = process.argv;
    if (words.includes("--help") || words.includes("-h")) return await write(usage(step));
    if (words.includes("--version")) return await write(`${version}\n`);
    const { folder, valueOnly } = commandLine(step, words);
    const document = await readDocument(step);
    for (const secret of secretsOf(document)) stderr.hideSecret(secret);
    for (const value of valuesOf(document)) stderr.hideValue(value);
    const request = parseRequest(step.request, document, warn);
    const answer = await step.run(request, {
      folder,
      hideSecret: stderr.hideSecret,
      hideValue: stderr.hideValue,
      warn,
      tell: stderr.tell,
      debug,
      valueOnly,
      atSignal: (next) => {
        settle = next;
      },
    });
    await deliver(step, { request, answer, valueOnly });
  } catch (error) {
    for (const one of error instanceof AggregateError ? error.errors : [error]) {
      stderr.tell(one instanceof Error ? one.message : String(one));
    }
    // Another request may still be under way, and nobody waits for its answer.
    process.exit(error instanceof StatusError ? error.exitStatus : 1);
  }
}

/** Has a terminal that goes end a put as other signals do, but where whoever started it had it ignore that, as nohup does. */
async function endAtHangup(end: (number: number) => Promise<void>): Promise<void> {
  const status = await Bun.file("/proc/self/status")
    .text()
    .catch(() => "");
  const [, mask = "0"] = /^SigIgn:\s+([\da-f]+)$/m.exec(status) ?? [];
  for (const [signal, number] of Object.entries({ SIGHUP: 1, SIGQUIT: 3 })) {
    const isIgnored = (BigInt(`0x${mask}`) >> BigInt(number - 1)) & 1n;
    if (!isIgnored) process.on(signal, () => void end(number));
  }
}

async function write(text: string): Promise<void> {
  try {
    await Bun.write(Bun.stdout, text);
  } catch (cause) {
    throw new Error(`the answer could not be written to stdout: ${codeOf(cause)}`, { cause });
  }
}

/**
 * Whether stdout was closed from the start. Bun has opened /dev/null in its place by then, with a flag that none has that
 * a program is started with.
 */
async function isStdoutClosed(): Promise<boolean> {
  const info = await Bun.file("/proc/self/fdinfo/1")
    .text()
    .catch(() => "");
  const [, flags = "0"] = /^flags:\s+(\d+)$/m.exec(info) ?? [];
  return (Number.parseInt(flags, 8) & CLOSE_ON_EXEC) !== 0;
}

async function deliver<Schema extends RequestSchema, Answer>(
  { valueIn, undelivered }: Step<Schema, Answer>,
  { request, answer, valueOnly }: { request: v.InferOutput<Schema>; answer: Answer; valueOnly: boolean },
): Promise<void> {
  const stored = undelivered?.(answer, request);
  try {
    await write(`${valueOnly && valueIn ? valueIn(answer) : JSON.stringify(answer)}\n`);
    if (stored !== undefined && (await isStdoutClosed())) throw new Error("stdout is closed");
  } catch (cause) {
    if (stored === undefined) throw cause;
    throw new StatusError(5, `${stored}, but ${Object(cause).message}`, { cause });
  }
}

function commandLine(step: CommandLine, words: string[]): { folder: string; valueOnly: boolean } {
  const options = words.filter((word) => word.startsWith("-"));
  const known = step.hasValueOption ? ["--value"] : [];
  const option = options.find((word) => !known.includes(word));
  if (option !== undefined) {
    throw new Error(`./${step.name}: unknown option ${option}; try ./${step.name} --help`);
  }
  const [folder = "", ...others] = words.filter((word) => !word.startsWith("-"));
  const isRight = others.length === 0 && (folder === "") === (step.folder === undefined);
  if (isRight) return { folder, valueOnly: options.length > 0 };
  if (words.length === 0) showUsageInTerminal(step);
  const expected = step.folder === undefined ? "no arguments" : `one argument, the ${step.folder} directory`;
  throw new Error(`./${step.name} takes ${expected}; send the request on stdin; try ./${step.name} --help`);
}

function showUsageInTerminal(step: CommandLine): void {
  const { isatty } = process.getBuiltinModule("node:tty");
  if (!isatty(0)) return;
  console.warn(usage(step));
  process.exit(1);
}

async function readDocument(step: CommandLine): Promise<unknown> {
  // To ask at once whether it is a terminal would cost every step some milliseconds.
  const terminalCheck = setTimeout(showUsageInTerminal, TERMINAL_CHECK_MS, step);
  let bytes;
  try {
    bytes = await readStdin();
  } catch (cause) {
    throw new Error(`stdin cannot be read: ${codeOf(cause)}`, { cause });
  } finally {
    clearTimeout(terminalCheck);
  }
  if (bytes === undefined) throw new Error("the request on stdin must not be larger than 16 MiB");
  if (bytes.length === 0) throw new Error("stdin is empty; expected a JSON request");
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new Error("stdin is not valid UTF-8", { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    // The parser's own message quotes its input, which has secrets in it.
    const { line, column } = mistakeIn(text);
    throw new Error(`stdin is not valid JSON (line ${line}, column ${column}); YAML is not accepted`, {
      cause,
    });
  }
}

/** All of stdin; undefined when it is larger than a request may be. */
async function readStdin(): Promise<Uint8Array | undefined> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of Bun.stdin.stream()) {
    length += chunk.length;
    if (length > MOST_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** The values in a request, which only messages about them may show. */
function valuesOf(document: unknown): string[] {
  const { params, version: known } = Object(document);
  return [Object(params).value, Object(known).value].filter((value) => typeof value === "string");
}
