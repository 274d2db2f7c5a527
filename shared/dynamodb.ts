import {
  type AttributeValue,
  DeleteItemCommand,
  PutItemCommand,
  QueryCommand,
  UpdateItemCommand,
} from "@aws-sdk/client-dynamodb";
import type { Connection } from "./connection.ts";
import { HEAD_CREATED, type Range, type Timed, timeOf } from "./created.ts";
import { awsNameOf } from "./errors.ts";
import { answerTo, extendDeadline, firstAttempt, type Item, type Table } from "./transport.ts";

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
    const answer = await answerTo(table, "dynamodb:Query", (attempts) =>
      table.client.send(command, attempts),
    );
    const next = answer.LastEvaluatedKey;
    if (next && next.created?.S === start?.created?.S) {
      throw new Error(
        `table ${table.tableName} in ${table.region}: DynamoDB gives one page of items again and again`,
      );
    }
    if (next) extendDeadline(table);
    const items = answer.Items ?? [];
    seen += items.length;
    start = next;
    yield items;
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
    await answerTo(table, "dynamodb:PutItem", () => table.client.send(command, attempts), attempts);
    return "stored";
  } catch (error) {
    if (awsNameOf(error) === "ConditionalCheckFailedException") return "taken";
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
  });
  try {
    await answerTo(table, "dynamodb:UpdateItem", (attempts) => table.client.send(command, attempts));
    return "claimed";
  } catch (error) {
    if (awsNameOf(error) === "ConditionalCheckFailedException") return "overtaken";
    if (awsNameOf(error) === "AccessDeniedException") return "denied";
    throw error;
  }
}

/** Deletes an item, or does nothing where it is gone already. */
export async function deleteItem(table: Table, created: string): Promise<void> {
  const command = new DeleteItemCommand({ TableName: table.tableName, Key: primaryKeyOf(table, created) });
  await answerTo(table, "dynamodb:DeleteItem", (attempts) => table.client.send(command, attempts));
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
