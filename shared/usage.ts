import * as v from "valibot";
import { fieldsOf } from "./request.ts";
import { type RequestSchema, SOURCE_GROUPS } from "./schema.ts";

/** How one of the three executables is called. */
export interface CommandLine {
  name: "check" | "in" | "out";
  /** What it does, in one sentence. */
  summary: string;
  /** Whether `--value` writes the value alone. */
  hasValueOption?: boolean;
  /** What the usage calls the directory on the command line; absent where there is none. */
  folder?: string;
  /** A request's parts besides the source, as an example. */
  example: Record<string, unknown>;
  request: RequestSchema;
}

const DOCUMENTATION = "https://github.com/OWNER/dynamo-keyval-resource#readme";

const EXAMPLE_SOURCE = {
  table_name: "packages-table",
  partition_key: "application",
  key: "my-app",
  region: "us-east-1",
};

const ENVIRONMENT = `environment (used where source has nothing):
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN   credentials
  AWS_PROFILE                                                   a profile of the shared AWS files
  AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN                     credentials by OIDC
  AWS_REGION, AWS_DEFAULT_REGION                                region
  AWS_ENDPOINT_URL_DYNAMODB, AWS_ENDPOINT_URL                   endpoint
  AWS_ENDPOINT_URL_STS                                          endpoint of STS
  http_proxy, https_proxy, no_proxy                             proxy; upper-case names work, too`;

/** What `--help` shows, no line longer than 100 columns. */
export function usage(step: CommandLine): string {
  const { name, summary, folder, hasValueOption } = step;
  const words = [...(hasValueOption ? ["[--value]"] : []), ...(folder === undefined ? [] : [folder])];
  const options = hasValueOption ? ["  --value    write the value alone to stdout, and a newline"] : [];
  return [
    `${name}: ${summary}`,
    "",
    `usage: ./${name} ${words.join(" ")} <request.json`,
    "",
    "options:",
    ...options,
    "  --help     show this help",
    "  --version  show the version",
    "",
    ...fieldLines(step),
    ...(name === "in" ? [] : [ENVIRONMENT, ""]),
    "example:",
    `./${name}${folder === undefined ? "" : " ."} <<'JSON'`,
    JSON.stringify({ source: EXAMPLE_SOURCE, ...step.example }, null, 2),
    "JSON",
    "",
    ...exitStatuses(step),
    "",
    `documentation: ${DOCUMENTATION}`,
    "",
  ].join("\n");
}

function fieldLines({ name, request }: CommandLine): string[] {
  const { source: _, params = {} } = fieldsOf(request);
  const groups =
    name === "in"
      ? {
          "source (for the metadata, the region only if given; other fields are validated, but not used)":
            SOURCE_GROUPS.table,
        }
      : Object.fromEntries(
          Object.entries(SOURCE_GROUPS).map(([group, fields]) => [`source, ${group}`, fields]),
        );
  return Object.entries({ ...groups, params }).flatMap(([title, fields]) =>
    Object.keys(fields).length === 0 ? [] : [`${title}:`, ...Object.entries(fields).map(fieldLine), ""],
  );
}

function fieldLine([field, schema]: [string, v.GenericSchema]): string {
  const isOptional = schema.type === "nullish" || schema.type === "optional";
  return `  ${field.padEnd(18)} ${v.getDescription(schema)}${isOptional ? "" : " (required)"}`;
}

function exitStatuses({ name }: CommandLine): string[] {
  return [
    "exit status:",
    "  0      success; the answer is on stdout",
    `  1      failure; the reason is on stderr${name === "out" ? ", and nothing is stored" : ""}`,
    ...(name === "check" ? ["  3      --value: the key has no version"] : []),
    ...(name === "out"
      ? [
          "  4      expect is not met; nothing is stored",
          "  5      the step failed, but its value is or may be stored",
        ]
      : []),
    "  128+N  ended by signal N (example: 143 for SIGTERM)",
  ];
}
