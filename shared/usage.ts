import * as v from "valibot";
import { fieldsOf } from "./request.ts";
import type { RequestSchema } from "./schema.ts";

/** How one of the three executables is called. */
export interface CommandLine {
  name: "check" | "in" | "out";
  /** What it does, in one sentence. */
  summary: string;
  /** What the usage calls the folder on the command line; absent where there is none. */
  folder?: string;
  /** A request's parts besides the source, as an example. */
  example: Record<string, unknown>;
  request: RequestSchema;
}

/** What `--help` shows. */
export function usage({ name, summary, folder, example, request }: CommandLine): string {
  const command = folder === undefined ? name : `${name} ${folder}`;
  const lines = [`${name}: ${summary}`, "", `usage: ${command} < request.json`];
  for (const [part, fields] of Object.entries(fieldsOf(request))) {
    lines.push("", `${part}:`);
    for (const [field, schema] of Object.entries(fields)) {
      const isOptional = schema.type === "nullish" || schema.type === "optional";
      lines.push(`  ${field.padEnd(18)} ${v.getDescription(schema)}${isOptional ? "" : " (required)"}`);
    }
  }
  const source = {
    table_name: "packages-table",
    partition_key: "application",
    key: "my-app",
    region: "us-east-1",
  };
  lines.push(
    "",
    "example, with the credentials of the environment:",
    `  ${name}${folder === undefined ? "" : " ."} <<'JSON'`,
    `  ${JSON.stringify({ source, ...example })}`,
    "  JSON",
    "",
    "exit status: 0 with the answer, one JSON document, on stdout; 1 with the reason on stderr;",
    "128 and its number on a signal",
    "",
  );
  return lines.join("\n");
}
