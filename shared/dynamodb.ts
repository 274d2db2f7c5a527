import {
  type AttributeValue,
  ConditionalCheckFailedException,
  DeleteItemCommand,
  PutItemCommand,
  QueryCommand,
  UpdateItemCommand,
} from "@aws-sdk/client-dynamodb";
import type { Connection } from "./connection.ts";
import { HEAD_CREATED, type Range, type Timed, timeOf } from "./created.ts";
import { verbatim } from "./commands.ts";
import { awsNameOf, StatusError } from "./errors.ts";
import { isItem, isPage, isWritten } from "./answer.ts";
import { answerTo, renewDeadline } from "./retry.ts";
import type { Item, Request, Table } from "./transport.ts";

const REFUSED_CONDITION = "ConditionalCheckFailedException";

/** What an item's value must be for the item to be a version: a string without NUL, or a number. */
const IS_VERSION =
  "attribute_type(#value, :number) OR (attribute_type(#value, :string) AND NOT contains(#value, :nul))";

/** How a range is read. */
export interface Reading {
  newestFirst?: boolean;
  /** The most items of the first page; while that many have come and the caller goes on, pages become larger. */
  limit?: number;
  /** The attributes to give, by name; without it, all. */
  attributes?: string[] | undefined;
  /** Whether items whose value cannot be a version's are left out. */
  versionsOnly?: boolean;
}

/** One page (1 MB at most) of a range, and after which item the next one starts. */
interface Page {
  items: Item[];
  next: Item | undefined;
}

/** Reads one page of a range of the key's items, strongly consistent, after the item `start` where one is given. */
async function queryPage(table: Table, range: Range, reading: Reading, start?: Item): Promise<Page> {
  const { from, to } = range;
  const { newestFirst = false, limit, attributes, versionsOnly = false } = reading;
  const names = ["created", ...(versionsOnly ? ["value"] : []), ...(attributes ?? [])];
  const command = new QueryCommand({
    TableName: table.tableName,
    ConsistentRead: true,
    KeyConditionExpression: `#key = :key AND #created ${to === undefined ? ">= :from" : "BETWEEN :from AND :to"}`,
    ProjectionExpression: attributes?.map((name) => `#${name}`).join(", "),
    FilterExpression: versionsOnly ? IS_VERSION : undefined,
    ExpressionAttributeNames: { "#key": table.partitionKey, ...placeholders(...names) },
    ExpressionAttributeValues: {
      ":key": { S: table.key },
      ":from": { S: from },
      ...(to !== undefined && { ":to": { S: to } }),
      ...(versionsOnly && { ":string": { S: "S" }, ":number": { S: "N" }, ":nul": { S: "\0" } }),
    },
    ScanIndexForward: !newestFirst,
    Limit: limit,
    ExclusiveStartKey: start,
  });
  const request: Request = {
    action: "dynamodb:Query",
    accepts: (answer) => isPage(answer, table, range, newestFirst, start?.created?.S),
    isInDoubt: false,
  };
  const answer = await answerTo(table, request, (attempt) => table.client.send(command, attempt));
  return { items: answer.Items ?? [], next: answer.LastEvaluatedKey };
}

/** Reads a range of the key's items, strongly consistent, a page (1 MB at most) at a time. */
export async function* queryItems(table: Table, range: Range, reading: Reading = {}): AsyncGenerator<Item[]> {
  const { limit, versionsOnly = false } = reading;
  let pageLimit = limit;
  let seen = 0;
  let start: Item | undefined;
  do {
    const { items, next } = await queryPage(
      table,
      range,
      { ...reading, ...(pageLimit !== undefined && { limit: pageLimit }) },
      start,
    );
    if (next) renewDeadline(table);
    seen += items.length;
    start = next;
    yield items;
    if (limit !== undefined && pageLimit !== undefined)
      pageLimit = seen < limit && !versionsOnly ? limit - seen : 2 * pageLimit;
  } while (start);
}

/** An item as it is put; `putId` tells it from another put's. */
export interface NewItem {
  created: string;
  value: string;
  putId: string;
  /** Which build puts it; none outside Concourse. */
  putBuild?: string | undefined;
}

/**
 * Puts an item where none may be yet, and settles by sending it again what became of an attempt that got no answer.
 * `isInDoubt`: one was sent before. Throws a StatusError 5 where nobody can tell whether the item is stored.
 */
export async function putItem(table: Table, item: NewItem, isInDoubt = false): Promise<"stored" | "taken"> {
  const request: Request = {
    action: "dynamodb:PutItem",
    accepts: isWritten,
    isPutItem: true,
    isInDoubt,
  };
  const command = new PutItemCommand({
    TableName: table.tableName,
    Item: attributesOf(table, item),
    ConditionExpression: "attribute_not_exists(#key)",
    ExpressionAttributeNames: { "#key": table.partitionKey },
    ReturnValuesOnConditionCheckFailure: "ALL_OLD",
  });
  try {
    await answerTo(table, request, (attempt) => table.client.send(command, attempt));
    return "stored";
  } catch (error) {
    const isTaken = awsNameOf(error) === REFUSED_CONDITION;
    try {
      const there = isTaken
        ? (refusedItem(error, item.created) ?? (await itemAt(table, item.created)))
        : undefined;
      if (there) return there.put_id?.S === item.putId ? "stored" : "taken";
      if (isTaken && !request.isInDoubt) return "taken";
      throw error;
    } catch (reason) {
      if (!request.isInDoubt || !(reason instanceof Error)) throw reason;
      const message = `${mayBeStored(item.created)}: ${reason.message}`;
      throw new StatusError(5, message, { cause: reason });
    }
  }
}

/** What a put says whose outcome nobody can tell. */
export function mayBeStored(created: string): string {
  return `the value may or may not be stored (created ${verbatim(created)})`;
}

/** What a put says that ends although its value is stored. */
export function isStored(created: string): string {
  return `the value is stored (created ${verbatim(created)})`;
}

/** Makes `place` the head's `put_next`, on condition that it is what was `seen` of it. */
export async function claimPlace(
  table: Table,
  place: string,
  seen: AttributeValue | undefined,
): Promise<"claimed" | "overtaken" | "denied"> {
  const request: Request = {
    action: "dynamodb:UpdateItem",
    accepts: ({ Attributes: given }) => isItem(given) && given.put_next?.S === place,
    isInDoubt: false,
  };
  const command = new UpdateItemCommand({
    TableName: table.tableName,
    Key: primaryKeyOf(table, HEAD_CREATED),
    UpdateExpression: "SET #put_next = :place, #value = :empty",
    ConditionExpression: seen === undefined ? "attribute_not_exists(#put_next)" : "#put_next = :seen",
    ExpressionAttributeNames: placeholders("put_next", "value"),
    ExpressionAttributeValues: {
      ":place": { S: place },
      // The C# resource reads the head as well and expects a value.
      ":empty": { S: "" },
      ...(seen !== undefined && { ":seen": seen }),
    },
    ReturnValues: "UPDATED_NEW",
  });
  try {
    await answerTo(table, request, (attempt) => table.client.send(command, attempt));
    return "claimed";
  } catch (error) {
    if (awsNameOf(error) === REFUSED_CONDITION) return "overtaken";
    if (awsNameOf(error) === "AccessDeniedException") return "denied";
    throw error;
  }
}

/** Deletes an item, or does nothing where it is gone already. Throws an Error in the user's words. */
export async function deleteItem(table: Table, created: string): Promise<void> {
  const request: Request = {
    action: "dynamodb:DeleteItem",
    accepts: isWritten,
    isInDoubt: false,
  };
  const command = new DeleteItemCommand({ TableName: table.tableName, Key: primaryKeyOf(table, created) });
  await answerTo(table, request, (attempt) => table.client.send(command, attempt));
}

/** The most bytes of one item of DynamoDB: 400 KB. */
export const ITEM_BYTES = 409_600;

/** How an item of so many bytes is too large. */
export function tooLarge(bytes: number): string {
  return `is too large: ${bytes} bytes, ${bytes - ITEM_BYTES} more than a DynamoDB item may have (${ITEM_BYTES}); store larger files elsewhere, such as in S3, and put their names`;
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
export function withTime(item: Item): (Timed & { item: Item }) | undefined {
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
    ...primaryKeyOf(connection, created),
    value: { S: value },
    put_id: { S: putId },
    ...(putBuild && { put_build: { S: putBuild } }),
  };
}

function primaryKeyOf({ partitionKey, key }: Connection, created: string): Item {
  return { [partitionKey]: { S: key }, created: { S: created } };
}

function placeholders(...attributes: string[]): Record<string, string> {
  return Object.fromEntries(attributes.map((name) => [`#${name}`, name]));
}

async function itemAt(table: Table, created: string): Promise<Item | undefined> {
  const reading = { attributes: ["created", "put_id"] };
  for await (const [item] of queryItems(table, { from: created, to: created }, reading)) {
    if (item) return item;
  }
  return undefined;
}

function refusedItem(error: unknown, created: string): Item | undefined {
  const { cause } = Object(error);
  return cause instanceof ConditionalCheckFailedException && cause.Item?.created?.S === created
    ? cause.Item
    : undefined;
}
