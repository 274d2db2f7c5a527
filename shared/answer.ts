import type { Connection } from "./connection.ts";
import type { Range } from "./created.ts";
import { UNEXPECTED } from "./errors.ts";

/** A JSON object as it was parsed. */
export type JsonObject = Record<string, unknown>;

const MOST_BYTES = 16 * 1024 * 1024;

/** What an answer to a Query may have in it. */
const QUERY_ANSWER = ["Items", "Count", "ScannedCount", "LastEvaluatedKey", "ConsumedCapacity"];

/** How each type of an attribute is written in JSON. */
const ATTRIBUTE_TYPES: Record<string, (value: unknown) => boolean> = {
  // As in a document, "constructor" names no type.
  __proto__: null!,
  S: isString,
  N: isString,
  B: isString,
  BOOL: (value) => typeof value === "boolean",
  NULL: (value) => typeof value === "boolean",
  SS: isListOf(isString),
  NS: isListOf(isString),
  BS: isListOf(isString),
  L: isListOf(isAttribute),
  M: isItem,
};

/** The bytes of an answer as they were sent; throws when there are more than 16 MiB. */
export async function bytesOf(response: Response): Promise<Uint8Array> {
  const { headers, body, status } = response;
  const length = headers.get("content-length");
  if (length !== null && Number(length) <= MOST_BYTES) return response.bytes();
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body ?? []) {
    bytes += chunk.length;
    if (bytes > MOST_BYTES) throw unexpected(status);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/**
 * The JSON object of an answer that can only be DynamoDB's, by its media type, request id and checksum; undefined
 * for any other answer.
 */
export function dynamodbJson({ endpoint }: Connection, headers: Headers, sent: Uint8Array) {
  const [mediaType = ""] = (headers.get("content-type") ?? "").split(";");
  // Alternator said so before it was mended.
  const known = ["application/x-amz-json-1.0", ...(endpoint ? ["application/json"] : [])];
  const checksum = headers.get("x-amz-crc32");
  const isWhole = checksum === null || Number(checksum) === Bun.hash.crc32(sent);
  const hasId = endpoint !== undefined || headers.get("x-amzn-requestid") !== null;
  if (!known.includes(mediaType.trim().toLowerCase()) || !isWhole || !hasId) return undefined;
  try {
    const bytes = headers.get("content-encoding") === "gzip" ? gunzip(sent) : sent;
    const value: unknown = JSON.parse(
      new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes),
    );
    return isObject(value) ? { value, bytes } : undefined;
  } catch {
    return undefined;
  }
}

function gunzip(bytes: Uint8Array): Uint8Array {
  return process.getBuiltinModule("node:zlib").gunzipSync(bytes, { maxOutputLength: MOST_BYTES });
}

/** Whether a part of a JSON document is an object. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The error for an answer that does not count. */
export function unexpected(httpStatusCode: number): Error {
  return Object.assign(new Error("an answer that is not DynamoDB's"), {
    name: UNEXPECTED,
    $metadata: { httpStatusCode },
  });
}

/** Whether a part of a JSON document is an item, by the types of its attributes. */
export function isItem(value: unknown): value is Record<string, JsonObject> {
  return isObject(value) && Object.values(value).every(isAttribute);
}

function isAttribute(value: unknown): boolean {
  if (!isObject(value)) return false;
  const [entry, ...others] = Object.entries(value);
  return entry !== undefined && others.length === 0 && (ATTRIBUTE_TYPES[entry[0]]?.(entry[1]) ?? false);
}

function isListOf(isOne: (value: unknown) => boolean): (value: unknown) => boolean {
  return (value) => Array.isArray(value) && value.every(isOne);
}

function isString(value: unknown): boolean {
  return typeof value === "string";
}

/** Whether an answer to a Query is a page of the range, and what it goes on with lies further on. */
export function isPage(
  answer: JsonObject,
  { partitionKey, key }: Connection,
  { from, to }: Range,
  newestFirst: boolean,
  start: string | undefined,
): boolean {
  const { Items: items, Count: count, LastEvaluatedKey: next } = answer;
  const isOurs = (item: unknown) =>
    isItem(item) && (!Object.hasOwn(item, partitionKey) || item[partitionKey]!.S === key);
  if (!hasOnly(answer, QUERY_ANSWER) || !Array.isArray(items) || count !== items.length) return false;
  if (!items.every(isOurs)) return false;
  if (next === undefined || next === null) return true;
  if (!isItem(next) || next[partitionKey]?.S !== key || typeof next.created?.S !== "string") return false;
  const edge = start ?? (newestFirst ? to : from);
  const further = edge === undefined ? 1 : compareBytes(next.created.S, edge) * (newestFirst ? -1 : 1);
  return further > 0 || (further === 0 && start === undefined);
}

/** Whether an answer can be a PutItem's or a DeleteItem's, of which nothing was asked to be returned. */
export function isWritten({
  Attributes: item,
  ConsumedCapacity: capacity,
  ItemCollectionMetrics: metrics,
  ...others
}: JsonObject) {
  return (
    Object.keys(others).length === 0 &&
    (item === undefined || isItem(item)) &&
    [capacity, metrics].every((one) => one === undefined || isObject(one))
  );
}

function hasOnly(answer: JsonObject, names: string[]): boolean {
  return Object.keys(answer).every((name) => names.includes(name));
}

/** DynamoDB orders strings by their UTF-8 bytes. */
function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
