import { type AttributeValue, DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { version } from "../package.json";
import { type Connection, givenCredentials } from "./connection.ts";
import { codeOf, failure, neverSent } from "./errors.ts";

/** A connection in use. */
export interface Table extends Connection {
  client: Pick<DynamoDBClient, "send">;
  /** No request is sent after this time on `performance.now()`'s clock, which the first request sets. */
  deadline?: number;
}

/** An item's attributes by name, as the client gives and takes them. */
export type Item = Record<string, AttributeValue>;

/** One request's options, on which the request handler leaves what became of its attempts. */
export interface Attempts {
  requestTimeout: number;
  /** Whether an attempt may have been carried out though no answer said so. */
  doubtful: boolean;
  /** Where the last attempt went. */
  host?: string;
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

const TOTAL_MS = 60_000;
const REQUEST_MS = 10_000;
const ATTEMPTS = 4;

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

/** Opens a table; makes no requests yet. All its requests together may take 60 s from the first on, each attempt of one 10 s. */
export function openTable(connection: Connection): Table {
  const { region, endpoint, roleArns, webIdentityToken, caCerts } = connection;
  // At its first TLS connection, fetch's thread reads the trusted certificates. With one that is refused at once,
  // it does so while the first request is prepared, and a check takes a fifth less. (To the endpoint itself, Bun
  // connects ahead only where the URL has a port: https://github.com/oven-sh/bun/issues/19626.)
  if (!caCerts && !endpoint?.startsWith("http:")) fetch.preconnect("https://127.0.0.1:1");
  const keys =
    roleArns.length === 0 && webIdentityToken === undefined ? givenCredentials(connection) : undefined;
  const requestHandler = {
    handle: (request: HttpRequest, attempts: Partial<Attempts>) => handle(table, request, attempts),
  };
  const client = new DynamoDBClient({
    region,
    ...(endpoint ? { endpoint } : { ignoreConfiguredEndpointUrls: true }),
    credentials:
      keys ?? (async () => (await import("./credentials.ts")).credentialsOf(connection, requestHandler)),
    requestHandler,
    sha256: NativeSha256,
    maxAttempts: ATTEMPTS,
    retryMode: "standard",
    // A setting that is left out is looked for in the environment and in files under ~/.aws, at a cost.
    accountIdEndpointMode: "disabled",
    authSchemePreference: [],
    defaultsMode: "standard",
    disableClockSkewCorrection: false,
    endpointDiscoveryEnabled: false,
    useDualstackEndpoint: connection.useDualstack,
    useFipsEndpoint: connection.useFips,
  });
  for (const name of UNUSED_MIDDLEWARE) {
    if (!client.middlewareStack.remove(name)) throw new Error(`the AWS SDK has no ${name} any more`);
  }
  const table: Table = { ...connection, client };
  return table;
}

/** The answer of `send` within the table's deadline, which the first request sets; throws an Error in the user's words. */
export async function answerTo<Output>(
  table: Table,
  action: string,
  send: (attempts: Attempts) => Promise<Output>,
  attempts: Attempts = firstAttempt(),
): Promise<Output> {
  table.deadline ??= performance.now() + TOTAL_MS;
  const left = AbortSignal.timeout(Math.max(table.deadline - performance.now(), 0));
  const timeout = new Promise<never>((_, reject) => {
    left.addEventListener("abort", () => reject(left.reason));
  });
  try {
    return await Promise.race([send(attempts), timeout]);
  } catch (error) {
    throw failure(error, action, table, attempts.host);
  }
}

/** The time (ms since 1970) that counts for this table. */
export function now(_table: Table): number {
  return Date.now();
}

/** Sets the deadline anew: who still receives pages is not stuck, however long the history is. */
export function extendDeadline(table: Table): void {
  table.deadline = performance.now() + TOTAL_MS;
}

/** The options of a request that is not sent yet. */
export function firstAttempt(): Attempts {
  return { requestTimeout: REQUEST_MS, doubtful: false };
}

/** One attempt of a request, over fetch: it minds the proxy variables and can really be ended. */
async function handle(table: Table, request: HttpRequest, attempts: Partial<Attempts>) {
  const { protocol, hostname, port, path, method, body = null } = request;
  const start = performance.now();
  const host = `${hostname}${port ? `:${port}` : ""}`;
  attempts.host = host;
  const what = `${request.headers["x-amz-target"] ?? method} at ${host}:`;
  const { deadline = Infinity } = table;
  const left = Math.min(deadline - performance.now(), attempts.requestTimeout ?? REQUEST_MS);
  try {
    const response = await fetch(`${protocol}//${host}${path}`, {
      method,
      // The checksum is that of the bytes as they are sent.
      headers: {
        ...request.headers,
        "accept-encoding": "identity",
        "user-agent": `dynamo-keyval-resource/${version}`,
      },
      body,
      redirect: "manual",
      // Else an environment variable makes Bun print requests, with their tokens and values.
      verbose: false,
      signal: AbortSignal.timeout(Math.max(left, 0)),
      ...(table.caCerts && { tls: { ca: await trusted(table.caCerts) } }),
    });
    const bytes = await response.bytes();
    table.debug?.(`${what} HTTP ${response.status}, ${bytes.length} bytes, ${elapsed(start)}`);
    const checksum = response.headers.get("x-amz-crc32");
    if (checksum !== null && Number(checksum) !== Bun.hash.crc32(bytes)) {
      throw Object.assign(new Error("its answer arrived damaged"), { $retryable: {} });
    }
    const { status: statusCode } = response;
    attempts.doubtful ||= statusCode < 400 || statusCode >= 500;
    const { date, ...headers } = response.headers.toJSON();
    // With a date that is far from ours, the SDK takes every refusal for one of our clock and tries again.
    const isOfClock = statusCode < 400 || /Signature|Expired/.test(new TextDecoder().decode(bytes));
    return {
      response: { statusCode, headers: { ...headers, ...(isOfClock && date && { date }) }, body: bytes },
    };
  } catch (error) {
    table.debug?.(`${what} ${codeOf(error) ?? String(error)}, ${elapsed(start)}`);
    attempts.doubtful ||= !neverSent(error);
    throw error;
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
