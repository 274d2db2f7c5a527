import {
  type AttributeValue,
  BatchWriteItemCommand,
  CreateTableCommand,
  DeleteItemCommand,
  DeleteTableCommand,
  DynamoDBClient,
  PutItemCommand,
  type PutItemCommandInput,
  paginateScan,
  QueryCommand,
  type QueryCommandInput,
  type QueryCommandOutput,
  waitUntilTableExists,
} from "@aws-sdk/client-dynamodb";
import type { Engine } from "./engine.ts";

type Item = Record<string, AttributeValue>;

/** A table of its own for one test, with the source that leads to it. */
export interface TestTable extends AsyncDisposable {
  source: Record<
    "table_name" | "partition_key" | "key" | "region" | "access_key" | "secret_key" | "endpoint",
    string
  >;
  /** Puts items of the source's key: `created` and `value`, or whole attributes besides `created`. */
  add: (...items: { created: string; value: string | Item }[]) => Promise<void>;
  /** Deletes an item of the source's key. */
  remove: (created: string) => Promise<void>;
  /** Leaves a claim of a place on the head, as a put does that has not gone on. */
  claim: (place: string) => Promise<void>;
  /** Sends a request as it was caught on its way. */
  send: (operation: string, body: Record<string, unknown>) => Promise<void>;
  /** Asks a query as it was caught on its way, for what it costs. */
  query: (body: Record<string, unknown>) => Promise<QueryCommandOutput>;
  /** All items of the table, by key and `created`, without the heads. */
  items: () => Promise<Record<string, string>[]>;
  /** The head of the source's key. */
  head: () => Promise<Record<string, string> | undefined>;
}

const HEAD = "1970-01-01T00:00:00.000Z";
let tables = 0;

/** How a table differs from that of the README. */
export interface Layout {
  name?: string;
  partitionKey?: string;
  /** The sort key's name; null for none. */
  sortKey?: string | null;
}

/** Creates a table; it is deleted when it is disposed of. */
export async function createTable(engine: Engine, layout: Layout = {}): Promise<TestTable> {
  const {
    name = `table-${process.pid}-${++tables}`,
    partitionKey = "application",
    sortKey = "created",
  } = layout;
  const credentials = { accessKeyId: "AKIAtest", secretAccessKey: "secret-of-the-tests" };
  const client = new DynamoDBClient({ endpoint: engine.endpoint, region: "us-east-1", credentials });
  const keys = [partitionKey, ...(sortKey === null ? [] : [sortKey])];
  await client.send(
    new CreateTableCommand({
      TableName: name,
      BillingMode: "PAY_PER_REQUEST",
      AttributeDefinitions: keys.map((key) => ({ AttributeName: key, AttributeType: "S" })),
      KeySchema: keys.map((key, index) => ({ AttributeName: key, KeyType: index === 0 ? "HASH" : "RANGE" })),
    }),
  );
  await waitUntilTableExists({ client, maxWaitTime: 30, minDelay: 0.01, maxDelay: 0.1 }, { TableName: name });
  const key = "my-app";
  const scan = async () => {
    const items: Record<string, string>[] = [];
    for await (const page of paginateScan({ client }, { TableName: name, ConsistentRead: true })) {
      for (const item of page.Items ?? []) {
        items.push(
          Object.fromEntries(Object.entries(item).map(([attribute, value]) => [attribute, textOf(value)])),
        );
      }
    }
    return items.toSorted((a, b) =>
      JSON.stringify([a[partitionKey], a.created]) < JSON.stringify([b[partitionKey], b.created]) ? -1 : 1,
    );
  };
  return {
    source: {
      table_name: name,
      partition_key: partitionKey,
      key,
      region: "us-east-1",
      access_key: credentials.accessKeyId,
      secret_key: credentials.secretAccessKey,
      endpoint: engine.endpoint,
    },
    add: async (...items) => {
      const requests = items.map(({ created, value }) => ({
        PutRequest: {
          Item: {
            [partitionKey]: { S: key },
            created: { S: created },
            ...(typeof value === "string" ? { value: { S: value } } : value),
          },
        },
      }));
      for (let start = 0; start < requests.length; start += 25) {
        await client.send(
          new BatchWriteItemCommand({ RequestItems: { [name]: requests.slice(start, start + 25) } }),
        );
      }
    },
    remove: async (created) => {
      await client.send(
        new DeleteItemCommand({
          TableName: name,
          Key: { [partitionKey]: { S: key }, created: { S: created } },
        }),
      );
    },
    claim: async (place) => {
      await client.send(
        new PutItemCommand({
          TableName: name,
          Item: {
            [partitionKey]: { S: key },
            created: { S: HEAD },
            value: { S: "" },
            put_next: { S: place },
          },
        }),
      );
    },
    send: async (operation, body) => {
      if (operation !== "PutItem") throw new Error(`${operation} is none that a test repeats`);
      await client.send(new PutItemCommand(body as unknown as PutItemCommandInput));
    },
    query: (body) => client.send(new QueryCommand(body as unknown as QueryCommandInput)),
    items: async () => (await scan()).filter((item) => item.created !== HEAD),
    head: async () => (await scan()).find((item) => item.created === HEAD && item[partitionKey] === key),
    [Symbol.asyncDispose]: async () => {
      await client.send(new DeleteTableCommand({ TableName: name }));
      client.destroy();
    },
  };
}

function textOf(value: AttributeValue): string {
  return value.S ?? value.N ?? JSON.stringify(value);
}
