import type { Connection } from "./connection.ts";

/** What of a table the user is told when a request about it fails. */
type Told = Pick<Connection, "tableName" | "partitionKey" | "region" | "endpoint" | "accessKey" | "roleArns">;

const THROTTLED = /^(ProvisionedThroughputExceededException|ThrottlingException|RequestLimitExceeded)$/;

/** Codes of fetch for a request that did not leave this machine. */
const NEVER_SENT =
  /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ERR_PROXY_TUNNEL|UnsupportedProxyProtocol)$|CERT|UNABLE_TO_/;
const UNTRUSTED = /CERT|UNABLE_TO_/;
const NETWORK = /^(ECONN|EHOST|ENET|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_|FailedToOpenSocket)/;

/** What the SDK adds to an error; an error of fetch has a `code` and no status. */
interface AwsError extends Error {
  code?: string;
  $fault?: "client" | "server";
  $metadata?: { httpStatusCode?: number; attempts?: number };
}

/** A failure with an exit status of its own: 3 the key has no version, 4 `expect` is not met, 5 the value is stored or may be. */
export class StatusError extends Error {
  readonly exitStatus: 3 | 4 | 5;

  constructor(exitStatus: 3 | 4 | 5, message: string, options?: ErrorOptions) {
    super(message, options);
    this.exitStatus = exitStatus;
  }
}

/** The name that DynamoDB, the SDK or fetch gave to what a `failure` is about. */
export function awsNameOf(error: unknown): string | undefined {
  return error instanceof Error && error.cause instanceof Error ? error.cause.name : undefined;
}

/** The code that the system or fetch gave to an error, such as ENOENT; undefined for any other. */
export function codeOf(error: unknown): string | undefined {
  const { code } = Object(error);
  return typeof code === "string" ? code : undefined;
}

/** Whether the request that failed with an error of fetch certainly never reached the other side. */
export function neverSent(error: unknown): boolean {
  return NEVER_SENT.test(codeOf(error) ?? "");
}

/** A failed request in the user's words and with what to do about it, in one line; `action` is the IAM action that it needs, `host` the one that was asked. */
export function failure(cause: unknown, action: string, table: Told, host = "DynamoDB"): Error {
  return new Error(explain(cause as AwsError, action, table, host), { cause });
}

function explain(error: AwsError, action: string, table: Told, host: string): string {
  const { name, $metadata = {} } = error;
  const message = error.message.replace(/\s+/g, " ");
  const where = `table ${table.tableName} in ${table.region}`;
  if (name === "ResourceNotFoundException") {
    return `${where} does not exist, for these credentials at least; create it: ${createTable(table)}`;
  }
  if (name === "ValidationException") {
    return /schema|key condition not supported|Missing the key|Type mismatch for key|number of conditions/i.test(
      message,
    )
      ? `${where} has other keys than partition key ${table.partitionKey} (S) and sort key created (S); check source.partition_key, or create a table: ${createTable(table)}`
      : `${where}: DynamoDB refuses ${action}: ${message}`;
  }
  if (name === "AccessDeniedException") {
    return `${where}: these credentials may not do ${action}; allow it in their IAM policy (DynamoDB says: ${message})`;
  }
  if (
    /^(UnrecognizedClientException|InvalidClientTokenId|MissingAuthenticationToken(Exception)?)$/.test(name)
  ) {
    return `DynamoDB does not know ${given(table, "access_key", "the access key")}; is it deleted or mistyped, or is a session_token missing?`;
  }
  if (/^(InvalidSignatureException|IncompleteSignatureException|SignatureDoesNotMatch)$/.test(name)) {
    return `DynamoDB refuses what was signed with ${given(table, "secret_key", "the secret key")}; is it mistyped, or is this worker's clock wrong?`;
  }
  if (name.startsWith("Expired"))
    return `DynamoDB refuses ${given(table, "session_token", "the session token")}: it has expired`;
  if (name === "CredentialsError") return message;
  if (THROTTLED.test(name)) {
    return `${where}: DynamoDB throttles ${action}, after ${$metadata.attempts ?? 1} attempts; raise the table's capacity or use on-demand billing`;
  }
  if (name === "TimeoutError") return `${host} gave no answer to ${action} in time; ${unreachable(table)}`;
  const code = codeOf(error) ?? "";
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID")
    return `the certificate of ${host} is one for other hosts; ${unreachable(table)}`;
  if (code === "CERT_HAS_EXPIRED") return `the certificate of ${host} has expired`;
  if (UNTRUSTED.test(code)) {
    return `the certificate of ${host} is not trusted (${code}); give its CA in source.ca_certs or among the worker's certificates`;
  }
  if (NETWORK.test(code)) return `${host} cannot be reached (${code}); ${unreachable(table)}`;
  if ($metadata.httpStatusCode === undefined) return `${host}: ${action} failed: ${message}`;
  if (error.$fault === undefined || name === "Unknown") {
    return `${host} gave an answer that is not DynamoDB's (HTTP ${$metadata.httpStatusCode}); ${unreachable(table)}`;
  }
  return `${where}: DynamoDB answers ${action} with ${name} (HTTP ${$metadata.httpStatusCode}): ${message}`;
}

function given(table: Told, field: string, otherwise: string): string {
  if (table.roleArns.length > 0) return `${otherwise} of the role that was assumed`;
  return table.accessKey ? `source.${field}` : `${otherwise} of AWS's default chain`;
}

function unreachable(table: Told): string {
  return `check ${table.endpoint ? "source.endpoint" : "source.region"}, the worker's network and its proxy settings`;
}

function createTable(table: Told): string {
  const key = shellWord(table.partitionKey);
  return awsCommand(table, "create-table", [
    "--billing-mode PAY_PER_REQUEST",
    `--attribute-definitions AttributeName=${key},AttributeType=S AttributeName=created,AttributeType=S`,
    `--key-schema AttributeName=${key},KeyType=HASH AttributeName=created,KeyType=RANGE`,
  ]);
}

/** A command of the AWS CLI about a table, to paste into a shell. */
export function awsCommand(
  { tableName, region, endpoint }: Pick<Connection, "tableName" | "region" | "endpoint">,
  operation: string,
  options: string[],
): string {
  const where = [`--region ${region}`, ...(endpoint ? [`--endpoint-url ${shellWord(endpoint)}`] : [])];
  return [`aws dynamodb ${operation}`, ...where, `--table-name ${shellWord(tableName)}`, ...options].join(
    " ",
  );
}

/** A word as a POSIX shell takes it. */
export function shellWord(word: string): string {
  return /^[\w./:-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
