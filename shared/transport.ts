import { type AttributeValue, DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { version } from "../package.json";
import { type Connection, givenCredentials } from "./connection.ts";
import { bytesOf, dynamodbJson, type JsonObject, unexpected } from "./answer.ts";
import { spanText } from "./created.ts";
import { ATTEMPT_MS, codeOf, neverSent } from "./errors.ts";
import { requireProxies } from "./proxy.ts";

/** A connection in use. */
export interface Table extends Connection {
  client: Pick<DynamoDBClient, "send">;
  /** Whether it is for a put: all its requests end within a minute, and the last 15 s are for what it has sent before. */
  isForPut: boolean;
  /** When the first request was sent, or the last page received, on `performance.now()`'s clock. */
  startedAt?: number;
  /** When the request under way ends at the latest, on `performance.now()`'s clock. */
  endsAt?: number;
  /** What the table's own clock said (ms since 1970), and when that was on `performance.now()`'s clock. */
  date?: { time: number; at: number };
}

/** An item's attributes by name, as the client gives and takes them. */
export type Item = Record<string, AttributeValue>;

/** One request, and what became of it. */
export interface Request {
  /** The IAM action that it needs. */
  action: string;
  /** Whether an answer's JSON has the shape that this operation's answers have. */
  accepts: (answer: JsonObject) => boolean;
  /** Whether it may be sent again in the last seconds of a put. */
  isPutItem?: boolean;
  /** Whether an attempt may have been carried out, or may yet be, though no answer that counts said so. */
  isInDoubt: boolean;
}

/** The options of one attempt, on which the request handler leaves what became of it. */
export interface Attempt {
  /** What the SDK's type of these options asks for; `endsAt` is what counts. */
  requestTimeout?: number;
  accepts: Request["accepts"];
  /** When it ends at the latest, on `performance.now()`'s clock. */
  endsAt: number;
  /** Where it went. */
  host?: string;
  /** Whether it may have left this machine and no answer that counts has come back. */
  isUnanswered: boolean;
}

/** What the client hands to its request handler, as far as it matters here. */
interface HttpRequest {
  method: string;
  protocol: string;
  hostname: string;
  port?: number;
  path: string;
  headers: Record<string, string>;
  body?: string | Uint8Array<ArrayBuffer>;
}

const TELLING_MS = 500;

/** Beyond this the worker's clock is taken for wrong. */
const CLOCK_ERROR_MS = 60_000;

/** What of the client does nothing here: one copies each answer for a log that nobody keeps, and the handler names the resource itself; 0.5 ms. */
const UNUSED_MIDDLEWARE = ["loggerMiddleware", "getUserAgentMiddleware"];

/** SHA-256 and its HMAC in Bun's own code; what the SDK would load for them costs a millisecond. */
class NativeSha256 {
  readonly #secret: string | Uint8Array | undefined;
  #hasher: Bun.CryptoHasher;

  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#secret =
      secret instanceof ArrayBuffer ? new Uint8Array(secret) : (secret as string | Uint8Array | undefined);
    this.#hasher = new Bun.CryptoHasher("sha256", this.#secret);
  }

  update(data: Uint8Array): void {
    this.#hasher.update(data);
  }

  async digest(): Promise<Uint8Array> {
    return this.#hasher.digest();
  }

  reset(): void {
    this.#hasher = new Bun.CryptoHasher("sha256", this.#secret);
  }
}

/**
 * Opens a table; makes no requests yet. All requests together may take 60 s from the first on, each attempt of one
 * 10 s; who reads may go on while pages come.
 */
export function openTable(connection: Connection, { isForPut = false } = {}): Table {
  const { region, endpoint, roleArns, webIdentityToken, caCerts } = connection;
  requireProxies();
  // At its first TLS connection, fetch's thread reads the trusted certificates. With one that is refused at once,
  // it does so while the first request is prepared, and a check takes a fifth less. (To the endpoint itself, Bun
  // connects ahead only where the URL has a port: https://github.com/oven-sh/bun/issues/19626.)
  if (!caCerts && !endpoint?.startsWith("http:")) fetch.preconnect("https://127.0.0.1:1");
  const keys =
    roleArns.length === 0 && webIdentityToken === undefined ? givenCredentials(connection) : undefined;
  const requestHandler = {
    handle: (request: HttpRequest, attempt: Partial<Attempt>) => handle(table, request, attempt),
  };
  const client = new DynamoDBClient({
    region,
    ...(endpoint ? { endpoint } : { ignoreConfiguredEndpointUrls: true }),
    credentials: keys ?? (() => credentialsOfStep(table, requestHandler)),
    requestHandler,
    sha256: NativeSha256,
    // What is asked again, and how often, depends on what became of the attempts: see `answerTo`.
    maxAttempts: 1,
    retryMode: "standard",
    // A setting that is left out is looked for in the environment and in files under ~/.aws, at a cost.
    accountIdEndpointMode: "disabled",
    authSchemePreference: [],
    defaultsMode: "standard",
    disableClockSkewCorrection: false,
    endpointDiscoveryEnabled: false,
    useDualstackEndpoint: connection.useDualstack && !endpoint,
    useFipsEndpoint: connection.useFips && !endpoint,
  });
  for (const name of UNUSED_MIDDLEWARE) {
    if (!client.middlewareStack.remove(name)) throw new Error(`the AWS SDK has no ${name} any more`);
  }
  const table: Table = { ...connection, client, isForPut };
  return table;
}

/** Without their expiry, which the SDK would judge by the worker's clock: they outlive a step. */
async function credentialsOfStep(table: Table, requestHandler: object) {
  const { credentialsOf } = await import("./credentials.ts");
  const { expiration: _, ...credentials } = await credentialsOf(table, requestHandler, table.endsAt);
  return credentials;
}

/** The time (ms since 1970) that counts for a table: the worker's, or the table's where the two differ by more than a minute. */
export function now(table: Pick<Table, "date">): number {
  const worker = Date.now();
  const own = dateOf(table) ?? worker;
  return Math.abs(own - worker) > CLOCK_ERROR_MS ? own : worker;
}

/** The time (ms since 1970) by the table's own clock; undefined where no answer has told it. */
export function dateOf({ date }: Pick<Table, "date">): number | undefined {
  return date && date.time + performance.now() - date.at;
}

function setDate(table: Table, time: number): void {
  const ahead = Date.now() - time;
  if (table.date === undefined && Math.abs(ahead) > CLOCK_ERROR_MS) {
    table.warn?.(
      `this worker's clock is ${spanText(Math.abs(ahead))} ${ahead > 0 ? "ahead of" : "behind"} DynamoDB's, whose time is used instead`,
    );
  }
  table.date = { time, at: performance.now() };
}

/** One attempt of a request, over fetch: it minds the proxy variables and can really be ended. */
async function handle(table: Table, request: HttpRequest, attempt: Partial<Attempt>) {
  const { protocol, hostname, port, path, method, body = null } = request;
  const start = performance.now();
  const host = `${hostname}${port ? `:${port}` : ""}`;
  attempt.host = host;
  const what = `${request.headers["x-amz-target"] ?? method} at ${host}:`;
  // STS's clients give no options; what it did must be told before the request that waits for it is cut.
  const endsAt = attempt.endsAt ?? (table.endsAt ?? Infinity) - TELLING_MS;
  const left = Math.min(endsAt - start, ATTEMPT_MS);
  attempt.isUnanswered = true;
  try {
    const response = await fetch(`${protocol}//${host}${path}`, {
      method,
      headers: {
        ...request.headers,
        "accept-encoding": "identity",
        "user-agent": `dynamo-keyval-resource/${version}`,
      },
      body,
      redirect: "manual",
      // The checksum is that of the bytes as they are sent.
      decompress: false,
      // Else an environment variable makes Bun print requests, with their tokens and values.
      verbose: false,
      signal: AbortSignal.timeout(Math.max(left, 0)),
      // Verified whatever NODE_TLS_REJECT_UNAUTHORIZED says.
      tls: { rejectUnauthorized: true, ...(table.caCerts && { ca: await trusted(table.caCerts) }) },
    });
    const bytes = await bytesOf(response);
    table.debug?.(`${what} HTTP ${response.status}, ${bytes.length} bytes, ${elapsed(start)}`);
    return {
      response: attempt.accepts ? counted(table, response, bytes, attempt) : asReceived(response, bytes),
    };
  } catch (error) {
    table.debug?.(`${what} ${codeOf(error) ?? String(error)}, ${elapsed(start)}`);
    attempt.isUnanswered = !neverSent(error);
    // STS's clients give no options that the host could be left on.
    throw Object.assign(Object(error), { host });
  }
}

function accepted(answer: JsonObject, { accepts }: Partial<Attempt>): boolean {
  try {
    return accepts?.(answer) ?? false;
  } catch {
    // It is nested too deeply to be looked through.
    return false;
  }
}

function elapsed(start: number): string {
  return `${(performance.now() - start).toFixed(1)} ms`;
}

/** fetch trusts either what it is given or what it knows, so that what it knows is given too. */
async function trusted(caCerts: string[]): Promise<string[]> {
  const { getCACertificates } = await import("node:tls");
  return [...getCACertificates("default"), ...caCerts];
}

function asReceived({ status, headers }: Response, body: Uint8Array) {
  return { statusCode: status, headers: headers.toJSON(), body };
}

/**
 * DynamoDB's own answer or refusal, which can be nothing else: by its media type, request id and checksum, and by its
 * JSON in the shape of the operation. A server's error is handed on as well, but says nothing of what was carried out.
 */
function counted(table: Table, response: Response, bytes: Uint8Array, attempt: Partial<Attempt>) {
  const { status, headers } = response;
  const json = dynamodbJson(table, headers, bytes);
  const { __type: type } = json?.value ?? {};
  const isAnswer = status === 200 && type === undefined;
  const isRefusal = status >= 400 && typeof type === "string";
  if (!json || !(isAnswer ? accepted(json.value, attempt) : isRefusal)) throw unexpected(status);
  attempt.isUnanswered = status >= 500;
  const date = headers.get("age") === null ? headers.get("date") : null;
  const time = Date.parse(date ?? "");
  if (!attempt.isUnanswered && !Number.isNaN(time)) setDate(table, time);
  // With a date that is far from ours, the SDK takes every refusal for one of our clock and tries again.
  const isOfClock = isAnswer || /Signature|Expired/.test(String(type));
  return {
    statusCode: status,
    headers: { "content-type": "application/x-amz-json-1.0", ...(isOfClock && date && { date }) },
    body: json.bytes,
  };
}
