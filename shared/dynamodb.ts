import {
  type AttributeValue,
  DeleteItemCommand,
  DynamoDBClient,
  PutItemCommand,
  QueryCommand,
  UpdateItemCommand,
} from "@aws-sdk/client-dynamodb";
import { version } from "../package.json";
import {
  compareCreated,
  FIRST_ISO,
  HEAD_CREATED,
  oldStyleRanges,
  type Range,
  type Timed,
  timeOf,
} from "./created.ts";
import { codeOf, failure, nameOf, neverSent } from "./errors.ts";

/** A table, one key of it, and how to reach it. */
export interface Connection {
  tableName: string;
  partitionKey: string;
  key: string;
  region: string;
  endpoint?: string | undefined;
  accessKey?: string | undefined;
  secretKey?: string | undefined;
  sessionToken?: string | undefined;
  /** A profile of the shared AWS files; without it and a key, AWS's default chain gives the credentials. */
  profile?: string | undefined;
  /** Roles to assume in turn, with what was given before. */
  roleArns: string[];
  roleSessionName: string;
  externalId?: string | undefined;
  /** A token with which the first role is taken. */
  webIdentityToken?: string | undefined;
  useFips: boolean;
  useDualstack: boolean;
  /** PEM texts, trusted besides the system's and the bundled roots. */
  caCerts?: string[] | undefined;
  /** Is told of each attempt of a request: where it went, what came back and how long it took. */
  debug?: ((message: string) => void) | undefined;
}

/** An access key, and when it ends. */
export interface Credentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string;
  expiration?: Date;
}

/** A connection in use. */
export interface Table extends Connection {
  client: Pick<DynamoDBClient, "send">;
  /** No request is sent after this time on `performance.now()`'s clock, which the first request sets. */
  deadline?: number;
}

/** An item's attributes by name, as the client gives and takes them. */
export type Item = Record<string, AttributeValue>;

const TOTAL_MS = 60_000;
const REQUEST_MS = 10_000;
const ATTEMPTS = 4;

/** How many more items a Query asks for, at least and at most, to make up for those that were passed over. */
const FEW = 10;
const MOST = 1_000_000;

/** How a range is read. */
export interface Reading {
  newestFirst?: boolean;
  limit?: number;
  /** The attributes to give, by name; without it, all. */
  attributes?: string[] | undefined;
}

/** One request's options, on which the request handler leaves what became of its attempts. */
interface Attempts {
  requestTimeout: number;
  /** Whether an attempt may have been carried out though no answer said so. */
  doubtful: boolean;
}

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

/** Opens a table; asks nothing yet. All its requests together may take 60 s from the first on, each attempt of one 10 s. */
export function openTable(connection: Connection): Table {
  const { region, endpoint, roleArns, webIdentityToken, caCerts } = connection;
  // At its first TLS connection, fetch's thread reads the trusted certificates. With one that is refused at once,
  // it does so while the first request is prepared, and a check takes a fifth less. (To the endpoint itself, Bun
  // connects ahead only where the URL has a port: https://github.com/oven-sh/bun/issues/19626.)
  if (!caCerts && !endpoint?.startsWith("http:")) fetch.preconnect("https://127.0.0.1:1");
  const keys = roleArns.length === 0 && webIdentityToken === undefined ? keysOf(connection) : undefined;
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
  // One copies each answer for a log that nobody keeps, the other's header is given below.
  client.middlewareStack.remove("loggerMiddleware");
  client.middlewareStack.remove("getUserAgentMiddleware");
  const table: Table = { ...connection, client };
  return table;
}

/**
 * Reads a range of the key's items, strongly consistent, a page (1 MB at most) at a time. With a `limit`, the
 * first page has no more items than that, and the others about as many as are missing then.
 */
export async function* queryItems(
  table: Table,
  { from, to }: Range,
  reading: Reading = {},
): AsyncGenerator<Item[]> {
  const { newestFirst = false, limit, attributes } = reading;
  let seen = 0;
  let start: Item | undefined;
  do {
    const command = new QueryCommand({
      TableName: table.tableName,
      ConsistentRead: true,
      KeyConditionExpression: `#key = :key AND #created ${to === undefined ? ">= :from" : "BETWEEN :from AND :to"}`,
      ProjectionExpression: attributes?.map((name) => `#${name}`).join(", "),
      ExpressionAttributeNames: {
        "#key": table.partitionKey,
        ...placeholders("created", ...(attributes ?? [])),
      },
      ExpressionAttributeValues: {
        ":key": { S: table.key },
        ":from": { S: from },
        ...(to !== undefined && { ":to": { S: to } }),
      },
      ScanIndexForward: !newestFirst,
      Limit: limit && Math.min(seen < limit ? limit - seen : Math.max(seen - limit, FEW), MOST),
      ExclusiveStartKey: start,
    });
    const answer = await told(table, "dynamodb:Query", table.client.send(command, firstAttempt()));
    const next = answer.LastEvaluatedKey;
    if (next && next.created?.S === start?.created?.S) {
      throw new Error(
        `table ${table.tableName} in ${table.region}: DynamoDB gives one page of items again and again`,
      );
    }
    // Who still receives pages is not stuck, however long the history is.
    if (next) table.deadline = performance.now() + TOTAL_MS;
    const items = answer.Items ?? [];
    seen += items.length;
    start = next;
    yield items;
  } while (start);
}

/** The first items of a range, `limit` at most (else all) and in the order of reading, of those that `read` makes something of. */
export async function takeItems<T extends Timed>(
  table: Table,
  range: Range,
  reading: Reading,
  read: (item: Item) => T | undefined,
): Promise<T[]> {
  const { limit = Infinity } = reading;
  const taken: T[] = [];
  for await (const page of queryItems(table, range, reading)) {
    taken.push(...page.map(read).filter((found) => found !== undefined));
    if (taken.length >= limit) break;
  }
  return taken.slice(0, limit);
}

/** The newest items in today's spelling, `count` at most and oldest first, of those that `read` makes something of. */
export async function newestIsoItems<T extends Timed>(
  table: Table,
  count: number,
  read: (item: Item) => T | undefined,
  attributes?: string[],
): Promise<T[]> {
  const reading = { newestFirst: true, limit: count, attributes };
  return (await takeItems(table, { from: FIRST_ISO }, reading, read)).toReversed();
}

/**
 * The newest items in the C# resource's spelling, `count` at most and oldest first, of those that are not older
 * than `since` (ms since 1970; undefined: all) and that `read` makes something of.
 */
export async function newestOldStyleItems<T extends Timed>(
  table: Table,
  { count, since }: { count: number; since: number | undefined },
  read: (item: Item) => T | undefined,
  attributes?: string[],
): Promise<T[]> {
  let newest: T[] = [];
  const readRange = async (range: Range) => {
    for await (const page of queryItems(table, range, { attributes })) {
      const recent = page.filter((item) => !isBefore(item, since));
      newest.push(...recent.map(read).filter((found) => found !== undefined));
      newest = newest.toSorted(compareCreated).slice(-count);
    }
  };
  await Promise.all(oldStyleRanges(since, Date.now()).map(readRange));
  return newest;
}

/** The newest items in either spelling, `count` at most and oldest first, of those that `read` makes something of. */
export async function newestItems<T extends Timed>(
  table: Table,
  count: number,
  read: (item: Item) => T | undefined,
): Promise<T[]> {
  const iso = await newestIsoItems(table, count, read);
  const since = iso.length < count ? undefined : iso[0]?.time;
  const oldStyle = await newestOldStyleItems(table, { count, since }, read);
  return [...iso, ...oldStyle].toSorted(compareCreated).slice(-count);
}

/** An item as it is put; `putId` tells it from another put's. */
export interface NewItem {
  created: string;
  value: string;
  putId: string;
  /** Which build puts it; none outside Concourse. */
  putBuild?: string | undefined;
}

/** Puts an item where none may be yet. The answer is an Error where none tells whether the item is stored now. */
export async function putItem(table: Table, item: NewItem): Promise<"stored" | "taken" | Error> {
  const attempts = firstAttempt();
  const command = new PutItemCommand({
    TableName: table.tableName,
    Item: attributesOf(table, item),
    ConditionExpression: "attribute_not_exists(#key)",
    ExpressionAttributeNames: { "#key": table.partitionKey },
  });
  try {
    await told(table, "dynamodb:PutItem", table.client.send(command, attempts));
    return "stored";
  } catch (error) {
    if (nameOf(error) === "ConditionalCheckFailedException") return "taken";
    if (attempts.doubtful && error instanceof Error) return error;
    throw error;
  }
}

/** Makes `place` the head's `put_next`, on condition that it is what was `seen` of it. */
export async function claimPlace(
  table: Table,
  place: string,
  seen: AttributeValue | undefined,
): Promise<"claimed" | "overtaken" | "denied"> {
  const command = new UpdateItemCommand({
    TableName: table.tableName,
    Key: keyOf(table, HEAD_CREATED),
    UpdateExpression: "SET #put_next = :place, #value = :empty",
    ConditionExpression: seen === undefined ? "attribute_not_exists(#put_next)" : "#put_next = :seen",
    ExpressionAttributeNames: placeholders("put_next", "value"),
    ExpressionAttributeValues: {
      ":place": { S: place },
      // The C# resource reads the head as well and expects a value.
      ":empty": { S: "" },
      ...(seen !== undefined && { ":seen": seen }),
    },
  });
  try {
    await told(table, "dynamodb:UpdateItem", table.client.send(command, firstAttempt()));
    return "claimed";
  } catch (error) {
    if (nameOf(error) === "ConditionalCheckFailedException") return "overtaken";
    if (nameOf(error) === "AccessDeniedException") return "denied";
    throw error;
  }
}

/** Deletes an item, or does nothing where it is gone already. */
export async function deleteItem(table: Table, created: string): Promise<void> {
  const command = new DeleteItemCommand({ TableName: table.tableName, Key: keyOf(table, created) });
  await told(table, "dynamodb:DeleteItem", table.client.send(command, firstAttempt()));
}

/** The most bytes of one item of DynamoDB: 400 KB. */
export const ITEM_BYTES = 409_600;

/** How an item of so many bytes is too large. */
export function tooLarge(bytes: number): string {
  return `is too large: ${bytes} bytes, ${bytes - ITEM_BYTES} more than the ${ITEM_BYTES} of a DynamoDB item`;
}

/** An item's size in bytes as DynamoDB counts it: names and values. */
export function itemBytes(connection: Connection, item: NewItem): number {
  const texts = Object.entries(attributesOf(connection, item)).flatMap(([name, value]) => [
    name,
    value.S ?? "",
  ]);
  return texts.reduce((bytes, text) => bytes + Buffer.byteLength(text), 0);
}

/** An item with the time of its `created`; undefined where that is no time. */
export function timed(item: Item): (Timed & { item: Item }) | undefined {
  const created = textOf(item.created) ?? "";
  const time = timeOf(created);
  return time === undefined ? undefined : { created, time, item };
}

/** A string's or a number's text; undefined for any other type of attribute and for none. */
export function textOf(attribute: AttributeValue | undefined): string | undefined {
  return attribute?.S ?? attribute?.N;
}

function attributesOf(connection: Connection, { created, value, putId, putBuild }: NewItem): Item {
  return {
    ...keyOf(connection, created),
    value: { S: value },
    put_id: { S: putId },
    ...(putBuild && { put_build: { S: putBuild } }),
  };
}

function isBefore(item: Item, time: number | undefined): boolean {
  const own = timed(item)?.time;
  return own !== undefined && time !== undefined && own < time;
}

function keyOf({ partitionKey, key }: Connection, created: string): Item {
  return { [partitionKey]: { S: key }, created: { S: created } };
}

/** The keys that a connection is given; undefined where it is given none. */
export function keysOf({ accessKey, secretKey, sessionToken }: Connection): Credentials | undefined {
  if (!accessKey || !secretKey) return undefined;
  return { accessKeyId: accessKey, secretAccessKey: secretKey, ...(sessionToken && { sessionToken }) };
}

function placeholders(...attributes: string[]): Record<string, string> {
  return Object.fromEntries(attributes.map((name) => [`#${name}`, name]));
}

function firstAttempt(): Attempts {
  return { requestTimeout: REQUEST_MS, doubtful: false };
}

/** An answer within the table's deadline, or an Error in the user's words. */
async function told<Output>(table: Table, action: string, answer: Promise<Output>): Promise<Output> {
  table.deadline ??= performance.now() + TOTAL_MS;
  const left = AbortSignal.timeout(Math.max(table.deadline - performance.now(), 0));
  const late = new Promise<never>((_, reject) => {
    left.addEventListener("abort", () => reject(left.reason));
  });
  try {
    return await Promise.race([answer, late]);
  } catch (error) {
    throw failure(error, action, table);
  }
}

/** One attempt of a request, over fetch: it minds the proxy variables and can really be ended. */
async function handle(table: Table, request: HttpRequest, attempts: Partial<Attempts>) {
  const { protocol, hostname, port, path, method, body = null } = request;
  const start = performance.now();
  const what = `${request.headers["x-amz-target"] ?? method} at ${hostname}${port ? `:${port}` : ""}:`;
  const { deadline = Infinity } = table;
  const left = Math.min(deadline - performance.now(), attempts.requestTimeout ?? REQUEST_MS);
  try {
    const response = await fetch(`${protocol}//${hostname}${port ? `:${port}` : ""}${path}`, {
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
