import type { Connection } from "./connection.ts";

/**
 * Marks a part of a message that is useless when it is cut or has anything masked in it but a secret: a command to
 * paste, or a value that the message is about. Whoever shows the message takes the marks out.
 */
export function verbatim(part: string): string {
  return `\u{e000}${part}\u{e001}`;
}

/** A value that a message is about, in quotes. */
export function shown(value: string): string {
  return verbatim(JSON.stringify(value));
}

/** Structures as the AWS CLI takes them: in its shorthand, or as JSON where a value has what means something there. */
export function structures(all: Record<string, string>[]): string {
  const isPlain = all.every((one) => Object.values(one).every((value) => /^[\w .-]+$/.test(value)));
  if (!isPlain) return shellWord(asciiJson(all));
  const fields = (one: Record<string, string>) =>
    Object.entries(one).map(([name, value]) => `${name}=${shellWord(value)}`);
  return all.map((one) => fields(one).join(",")).join(" ");
}

/** JSON of which a terminal shows every character. */
export function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[^ -~]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** A command of the AWS CLI about a table, to paste into a shell. */
export function awsCommand(
  { tableName, region, endpoint }: Pick<Connection, "tableName" | "region" | "endpoint">,
  operation: string,
  options: string[],
): string {
  const where = [`--region ${region}`, ...(endpoint ? [`--endpoint-url ${shellWord(endpoint)}`] : [])];
  const words = [`aws dynamodb ${operation}`, ...where, `--table-name ${shellWord(tableName)}`, ...options];
  return verbatim(words.join(" "));
}

/** A word as a POSIX shell takes it. */
export function shellWord(word: string): string {
  return /^[\w./:-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
