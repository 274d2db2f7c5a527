import { awsCommand, structures } from "./commands.ts";
import type { Connection } from "./connection.ts";
import { proxyFor } from "./proxy.ts";

/** What of a connection the user is told when a request fails. */
type FailureContext = Pick<
  Connection,
  "tableName" | "partitionKey" | "region" | "endpoint" | "accessKey" | "roleArns"
>;

/** Where a request went last, and how many attempts of it were made. */
export interface Tried {
  host?: string | undefined;
  attempts?: number;
}

/** What the SDK adds to an error; an error of fetch has a `code` and no status. */
interface AwsError extends Error {
  code?: string;
  $metadata?: { httpStatusCode?: number };
}

/** How long one attempt of a request may take, in ms. */
export const ATTEMPT_MS = 10_000;

/** The name of the error for an answer that does not count. */
export const UNEXPECTED = "UnexpectedAnswer";

/** What DynamoDB says of a key condition, an item or a key that do not fit the table's keys. */
const OTHER_KEYS =
  /schema|key condition not supported|Missing the key|Type mismatch for key|number of conditions/i;

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

/** The code that the system or fetch gave to an error (example: ENOENT); undefined for any other. */
export function codeOf(error: unknown): string | undefined {
  const { code } = Object(error);
  return typeof code === "string" ? code : undefined;
}

/** Whether fetch failed because the other side's certificate is not trusted or is not one for this host. */
function isOfCertificate(code: string): boolean {
  return /CERT|UNABLE_TO_/.test(code);
}

/** Whether the request that failed with an error of fetch certainly never reached the other side. */
export function neverSent(error: unknown): boolean {
  const code = codeOf(error) ?? "";
  switch (code) {
    case "ECONNREFUSED":
    case "ENOTFOUND":
    case "EAI_AGAIN":
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "ERR_PROXY_TUNNEL":
      return true;
    default:
      return isOfCertificate(code);
  }
}

/** Whether an error of fetch will be the same at each attempt: a name that does not exist, or TLS. */
export function isFinal(error: unknown): boolean {
  const code = codeOf(error) ?? "";
  return code === "ENOTFOUND" || isOfCertificate(code);
}

/** The status with which a proxy refused to open a tunnel; undefined for any other error. */
export function tunnelStatus(error: unknown): number | undefined {
  if (codeOf(error) !== "ERR_PROXY_TUNNEL") return undefined;
  const [status] = /\b[45]\d\d\b/.exec(Object(error).message) ?? [];
  return status === undefined ? undefined : Number(status);
}

/** A failed request in the user's words and with what to do about it, in one line; `action` is the IAM action that it needs. */
export function failure(
  cause: unknown,
  action: string,
  connection: FailureContext,
  tried: Tried = {},
): Error {
  return new Error(explain(cause as AwsError, action, connection, tried), { cause });
}

function explain(error: AwsError, action: string, connection: FailureContext, tried: Tried): string {
  const { name, $metadata: { httpStatusCode: status } = {} } = error;
  const { tableName, region, partitionKey } = connection;
  const { host = "DynamoDB", attempts = 1 } = tried;
  const message = String(Object(error).message ?? "").replace(/\s+/g, " ");
  const where = `table ${tableName} in ${region}`;
  switch (name) {
    case "CredentialsError":
      return message;
    case "ResourceNotFoundException":
      return `${where} does not exist, or these credentials cannot see it; create it: ${createTable(connection)}`;
    case "ValidationException":
      return OTHER_KEYS.test(message)
        ? `${where} does not have the keys this resource needs (partition key ${JSON.stringify(partitionKey)} and sort key "created", both strings; names are case-sensitive). Inspect them: ${awsCommand(connection, "describe-table", ["--query Table.KeySchema"])}`
        : `${where}: DynamoDB rejected ${action}: ${message}`;
    case "AccessDeniedException":
      return `${where}: these credentials are not allowed to call ${action}; allow it in their IAM policy (DynamoDB: ${message})`;
    case "UnrecognizedClientException":
    case "InvalidClientTokenId":
    case "MissingAuthenticationToken":
    case "MissingAuthenticationTokenException":
      return `DynamoDB does not know ${given(connection, "access_key", "the access key")}; it may be deleted or mistyped, or a session token may be missing`;
    case "InvalidSignatureException":
    case "IncompleteSignatureException":
    case "SignatureDoesNotMatch":
      return `DynamoDB rejected the signature made with ${given(connection, "secret_key", "the secret key")}; it may be mistyped, or this worker's clock may be wrong`;
    case "ExpiredToken":
    case "ExpiredTokenException":
      return `DynamoDB rejected ${given(connection, "session_token", "the session token")}: it has expired; get a new one`;
    case "ProvisionedThroughputExceededException":
    case "ThrottlingException":
    case "RequestLimitExceeded":
      return `${where}: DynamoDB throttled ${action} (${times(attempts)}); raise the table's capacity or use on-demand billing`;
    case UNEXPECTED:
      return `${answerer(host, connection.endpoint)} did not answer like DynamoDB (HTTP ${status}, ${times(attempts)}); ${Number(status) >= 500 ? "try again, or " : ""}${checkNetwork(connection)}`;
    default:
  }
  if (attempts === 0) {
    return `${where}: timed out before ${action} was sent; requests must end within 60 s, and a put starts none after 45 s`;
  }
  if (status === undefined) {
    const network = networkFailure(error, host, attempts, connection.endpoint);
    if (!network) return `${host}: ${action} failed: ${message}`;
    return isOfCertificate(codeOf(error) ?? "") ? network : `${network}; ${checkNetwork(connection)}`;
  }
  return `${where}: DynamoDB answered ${action} with ${name} (HTTP ${status}, ${times(attempts)}): ${message}`;
}

/** What the network did to a request, without what to do about it; undefined where it is not about the network. */
export function networkFailure(
  error: unknown,
  host: string,
  attempts = 1,
  endpoint?: string,
): string | undefined {
  const code = codeOf(error) ?? "";
  const proxy = proxyFor(host, endpoint?.startsWith("http:") ? "http" : "https");
  const by = proxy ? `${host}: the proxy ${proxy.shown} (${proxy.variable})` : host;
  if (Object(error).name === "TimeoutError") {
    return `${by} gave no answer within ${ATTEMPT_MS / 1000} s (${times(attempts)})`;
  }
  const status = tunnelStatus(error);
  if (status !== undefined) return `${by} answered CONNECT with HTTP ${status}`;
  switch (code) {
    case "":
      return undefined;
    case "ECONNREFUSED":
      return `${by} refused the connection`;
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return proxy ? `${by} was not found (${code})` : `the host ${host} was not found (${code})`;
    case "ECONNRESET":
    case "EPIPE":
      return `${by} closed the connection (${code}, ${times(attempts)})`;
    case "ERR_TLS_CERT_ALTNAME_INVALID":
      return `the certificate of ${host} is not valid for this host name; check the endpoint and the proxy settings`;
    case "CERT_HAS_EXPIRED":
      return `the certificate of ${host} has expired`;
    default:
      return isOfCertificate(code)
        ? `the certificate of ${host} is not trusted (${code}): add its CA to source.ca_certs or to the worker's certificates`
        : `${by} cannot be reached (${code}, ${times(attempts)})`;
  }
}

/**
 * Why a source of credentials failed. Not every message can be shown: a program's quotes its command line and output, a
 * parser's what it was given.
 */
export function reasonOf(cause: unknown): string {
  const { name, message, code, path, host = "its endpoint", $metadata, $fault } = Object(cause);
  const status = $metadata?.httpStatusCode;
  if (status !== undefined && $fault === undefined) return `${host} did not answer like AWS (HTTP ${status})`;
  if (String(message).startsWith("Command failed"))
    return "its credential_process failed; run it in a shell to see why";
  if (name === "SyntaxError" || /JSON Parse error/.test(message)) return "its answer is not valid JSON";
  if (code === "ERR_INVALID_URL") return "it is not a valid URL";
  if (code === "ERR_INVALID_CHAR")
    return "its token contains white space or a non-ASCII character (a newline at its end?)";
  if (name === "TypeError") return "its settings are incomplete";
  if (typeof path === "string")
    return `${JSON.stringify(path)} ${code === "ENOENT" ? "does not exist" : `cannot be read (${code})`}`;
  return (
    networkFailure(cause, host) ??
    String(message)
      .replace(/\s+/g, " ")
      .replace(/^(\w*Error( \[\w+\])?: )+/, "")
  );
}

/** Who may have answered: over TLS it is the host, else it may be the proxy as well. */
function answerer(host: string, endpoint: string | undefined): string {
  const proxy = endpoint?.startsWith("http:") ? proxyFor(host, "http") : undefined;
  return proxy ? `${host}, through the proxy ${proxy.shown} (${proxy.variable}),` : host;
}

/** How often something was tried. */
export function times(attempts: number): string {
  return attempts === 1 ? "1 attempt" : `${attempts} attempts`;
}

function given({ roleArns, accessKey }: FailureContext, field: string, otherwise: string): string {
  if (roleArns.length > 0) return `${otherwise} of the assumed role`;
  return accessKey ? `source.${field}` : `${otherwise} of AWS's credential chain`;
}

function checkNetwork({ endpoint }: FailureContext): string {
  return `check ${endpoint ? "the endpoint" : "source.region"}, the network and the proxy settings`;
}

function createTable(connection: FailureContext): string {
  const names = [connection.partitionKey, "created"];
  const definitions = names.map((AttributeName) => ({ AttributeName, AttributeType: "S" }));
  const schema = names.map((AttributeName, index) => ({
    AttributeName,
    KeyType: index === 0 ? "HASH" : "RANGE",
  }));
  return awsCommand(connection, "create-table", [
    "--billing-mode PAY_PER_REQUEST",
    `--attribute-definitions ${structures(definitions)}`,
    `--key-schema ${structures(schema)}`,
  ]);
}
