import { expect, test } from "bun:test";
import { startDynalite } from "../support/engine.ts";
import { type Asked, awsError, startProxy } from "../support/proxy.ts";
import { dist } from "../support/step.ts";
import { createTable } from "../support/table.ts";

// From dist alone, on dynalite: what an answer must be does not depend on who gives it.
const { run } = dist;
const engine = await startDynalite();
const words = ["/tmp"];

const JSON_1_0 = "application/x-amz-json-1.0";
const dynamodb = (body: string | object, headers: Record<string, string> = {}) =>
  new Response(typeof body === "string" ? body : JSON.stringify(body), {
    headers: { "content-type": JSON_1_0, ...headers },
  });

type Fake = (asked: Asked) => Response;

/** What no request is answered with by DynamoDB. */
const never: Record<string, Fake> = {
  "an empty 200": () => new Response(null),
  "an empty 200 of the right type": () => dynamodb(""),
  null: () => dynamodb("null"),
  "an array": () => dynamodb("[]"),
  "another service's JSON": () => dynamodb({ status: "healthy" }),
  "an error with status 200": () => dynamodb({ __type: "x#ThrottlingException", message: "slow down" }),
  "JSON of another media type": () =>
    Response.json({ Items: [], Count: 0, ScannedCount: 0 }, { headers: { "content-type": "text/json" } }),
  "a page of HTML": () => new Response("<html>Log in</html>", { headers: { "content-type": "text/html" } }),
  "bytes that are not UTF-8": () =>
    new Response(new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), {
      headers: { "content-type": JSON_1_0 },
    }),
  "a byte-order mark": () => dynamodb("\ufeff{}"),
  "status 201": () => Response.json({}, { status: 201, headers: { "content-type": JSON_1_0 } }),
  "status 302": () => new Response(null, { status: 302, headers: { location: "http://127.0.0.1:1/" } }),
  "a wrong checksum": () => dynamodb({}, { "x-amz-crc32": "1" }),
  "more than 16 MiB": () => dynamodb(`{"Items":[],"Count":0${" ".repeat(16 * 1024 * 1024)}}`),
  "a gzip bomb": () =>
    new Response(Bun.gzipSync(new Uint8Array(64 * 1024 * 1024)), {
      headers: { "content-type": JSON_1_0, "content-encoding": "gzip" },
    }),
};

/** What only a Query is not answered with. */
const neverPages: Record<string, Fake> = {
  "an empty object": () => dynamodb({}),
  "Items that are a string": () => dynamodb({ Items: "none", Count: 4 }),
  "an item that is null": () => dynamodb({ Items: [null], Count: 1 }),
  "an attribute that is a number": () => dynamodb({ Items: [{ created: { S: 7 } }], Count: 1 }),
  "an attribute of no type": () => dynamodb({ Items: [{ created: { Q: "7" } }], Count: 1 }),
  "a binary attribute that is not base64": () =>
    dynamodb({ Items: [{ created: { S: "2026-01-01T00:00:00.000Z" }, value: { B: "!" } }], Count: 1 }),
  "another Count": () => dynamodb({ Items: [], Count: 1 }),
  "an item of another key": () =>
    dynamodb({
      Items: [{ application: { S: "other" }, created: { S: "2026-01-01T00:00:00.000Z" } }],
      Count: 1,
    }),
  "a next page of another key": () =>
    dynamodb({ Items: [], Count: 0, LastEvaluatedKey: { application: { S: "other" }, created: { S: "3" } } }),
  "a next page that lies before": ({ body: { ScanIndexForward: isForward } }) =>
    dynamodb({
      Items: [],
      Count: 0,
      LastEvaluatedKey: { application: { S: "my-app" }, created: { S: isForward === false ? "~" : "!" } },
    }),
};

const operations = ["Query", "UpdateItem", "PutItem", "DeleteItem"] as const;

const cases = [
  ...operations.flatMap((operation) =>
    Object.entries(never).map(([what, answer]) => ({ operation, what, answer })),
  ),
  ...[{ Attributes: 5 }, { ConsumedCapacity: "x" }, { ItemCollectionMetrics: [1] }].map((body) => ({
    operation: "PutItem" as const,
    what: JSON.stringify(body),
    answer: () => dynamodb(body),
  })),
  ...Object.entries(neverPages).map(([what, answer]) => ({ operation: "Query" as const, what, answer })),
  {
    operation: "UpdateItem" as const,
    what: "another place",
    answer: () => dynamodb({ Attributes: { put_next: { S: "2026-01-01T00:00:00.000Z" } } }),
  },
  { operation: "UpdateItem" as const, what: "an empty object", answer: () => dynamodb({}) },
];

test.concurrent.each(cases)(
  "$operation answered with $what does not count, and is sent four times",
  async ({ operation, answer }) => {
    await using table = await createTable(engine);
    const old = { created: "2026-01-01T00:00:00.000Z", value: "old" };
    await table.add({ created: "2025-01-01T00:00:00.000Z", value: "older" }, old);
    let answered = 0;
    await using proxy = startProxy(table.source.endpoint, (asked) => {
      if (asked.operation !== operation) return undefined;
      answered++;
      return answer(asked);
    });
    const source = { ...table.source, endpoint: proxy.endpoint, keep: 1 };
    const request = { source, params: { value: "new" } };
    const { status, stdout, stderr } = await run("out", request, { words });
    const expected = { Query: 1, UpdateItem: 1, PutItem: 5, DeleteItem: 0 }[operation];
    expect({ status, isEmpty: stdout === "", lines: stderr.length }).toEqual({
      status: expected,
      isEmpty: expected !== 0,
      lines: 1,
    });
    // The two queries of a look are sent at once.
    expect(answered).toBeWithin(4, operation === "Query" ? 9 : 5);
    expect(await table.items()).toHaveLength(operation === "DeleteItem" ? 3 : 2);
    if (operation !== "Query") return;
    const checked = await run("check", { source: { ...source, initial_value: "initial" } });
    expect({ status: checked.status, stdout: checked.stdout, lines: checked.stderr.length }).toEqual({
      status: 1,
      stdout: "",
      lines: 1,
    });
  },
);

test.each<[string, (body: string, bytes: Uint8Array) => Response]>([
  [
    "parameters and case of the media type",
    (body) =>
      new Response(body, { headers: { "content-type": "Application/X-Amz-JSON-1.0; charset=utf-8" } }),
  ],
  [
    "plain JSON, as old Alternators say",
    (body) => new Response(body, { headers: { "content-type": "application/json" } }),
  ],
  [
    "gzip, with the checksum of the compressed bytes",
    (_, bytes) => {
      const zipped = Bun.gzipSync(new Uint8Array(bytes));
      return new Response(zipped, {
        headers: {
          "content-type": JSON_1_0,
          "content-encoding": "gzip",
          "x-amz-crc32": `${Bun.hash.crc32(zipped)}`,
        },
      });
    },
  ],
])("an answer counts with %s", async (_, answer) => {
  await using table = await createTable(engine);
  await using proxy = startProxy(table.source.endpoint, async ({ body, headers }) => {
    const answered = await fetch(table.source.endpoint, {
      method: "POST",
      headers: { ...headers, "accept-encoding": "identity" },
      body: JSON.stringify(body),
    });
    return answered.ok ? answer(...(await bothOf(answered))) : answered;
  });
  const source = { ...table.source, endpoint: proxy.endpoint };
  const put = await run("out", { source, params: { value: "1" } }, { words });
  expect(put).toMatchObject({ status: 0, stderr: [] });
  const { version } = JSON.parse(put.stdout);
  expect(JSON.parse((await run("check", { source })).stdout)).toEqual([version]);
});

async function bothOf(answer: Response): Promise<[string, Uint8Array]> {
  const bytes = await answer.bytes();
  return [new TextDecoder().decode(bytes), bytes];
}

test("a refusal that shows another item says nothing of the place", async () => {
  await using table = await createTable(engine);
  let sent = 0;
  await using proxy = startProxy(table.source.endpoint, async ({ operation, body }) => {
    if (operation !== "PutItem" || ++sent > 2) return undefined;
    if (sent === 1) await table.send(operation, body);
    return sent === 1
      ? new Response(null, { status: 502 })
      : Response.json(
          { __type: "x#ConditionalCheckFailedException", message: "no", Item: {} },
          { status: 400, headers: { "content-type": JSON_1_0 } },
        );
  });
  const source = { ...table.source, endpoint: proxy.endpoint };
  const { status, stdout, stderr } = await run("out", { source, params: { value: "1" } }, { words });
  expect({ status, stderr }).toEqual({ status: 0, stderr: [] });
  expect(await table.items()).toMatchObject([JSON.parse(stdout).version]);
});

/** What a put says of its value when a PutItem ends so, each attempt in its turn and the last one for all others. */
const doubts: [
  string,
  { first: "carried out" | "not"; answers: (() => Response)[]; status: number; line: RegExp | undefined },
][] = [
  ...[400, 403, 404, 407, 408, 413, 429, 499].map((status): (typeof doubts)[number] => [
    `carried out, then HTTP ${status} of a middlebox`,
    {
      first: "carried out",
      answers: [() => new Response("<html>", { status })],
      status: 5,
      line: /^the value may or may not be stored \(created 2/,
    },
  ]),
  [
    "carried out and not answered, then refused",
    {
      first: "carried out",
      answers: [() => new Response(null, { status: 400 }), () => awsError("AccessDeniedException", "no")],
      status: 5,
      line: /^the value may or may not be stored \(created 2.*dynamodb:PutItem/,
    },
  ],
  [
    "carried out and answered with a 500 of DynamoDB's, then refused",
    {
      first: "carried out",
      answers: [
        () => awsError("InternalServerError", "broken", 500),
        () => awsError("AccessDeniedException", "no"),
      ],
      status: 5,
      line: /^the value may or may not be stored \(created 2/,
    },
  ],
  [
    "carried out, and its answer cannot be read",
    {
      first: "carried out",
      answers: [() => dynamodb({ Attributes: { x: { B: "!" } } })],
      status: 5,
      line: /^the value may or may not be stored \(created 2.*did not answer like DynamoDB/,
    },
  ],
  [
    "refused without a message",
    {
      first: "not",
      answers: [
        () =>
          new Response('{"__type":"x#AccessDeniedException","message":5}', {
            status: 400,
            headers: { "content-type": "application/x-amz-json-1.0" },
          }),
      ],
      status: 1,
      line: /dynamodb:PutItem.*\(DynamoDB: 5\)$/,
    },
  ],
  [
    "refused",
    {
      first: "not",
      answers: [() => awsError("AccessDeniedException", "no")],
      status: 1,
      line: /dynamodb:PutItem/,
    },
  ],
  [
    "throttled, then refused",
    {
      first: "not",
      answers: [() => awsError("ThrottlingException", "slow"), () => awsError("AccessDeniedException", "no")],
      status: 1,
      line: /dynamodb:PutItem/,
    },
  ],
];

test.concurrent.each(doubts)("a PutItem that is %s", async (_, { first, answers, status, line }) => {
  await using table = await createTable(engine);
  let sent = 0;
  await using proxy = startProxy(table.source.endpoint, async ({ operation, body }) => {
    if (operation !== "PutItem") return undefined;
    if (sent === 0 && first === "carried out") await table.send(operation, body);
    return answers[Math.min(sent++, answers.length - 1)]!();
  });
  const source = { ...table.source, endpoint: proxy.endpoint };
  const outcome = await run("out", { source, params: { value: "1" } }, { words });
  expect({ ...outcome, stderr: outcome.stderr.length }).toEqual({ status, stdout: "", stderr: 1 });
  expect(outcome.stderr[0]).toMatch(line ?? "");
  expect(await table.items()).toHaveLength(first === "carried out" ? 1 : 0);
  expect(proxy.asked.filter(({ operation }) => operation === "PutItem").map(({ body }) => body)).toEqual(
    Array.from({ length: sent }, () => proxy.asked.find(({ operation }) => operation === "PutItem")!.body),
  );
});

test.each<[string, number, boolean]>([
  ["ten years ahead", 10 * 365 * 24 * 60, false],
  ["two hours behind", -120, false],
  ["right, and an answer comes from a cache", 120, true],
])("time is the table's where the worker's clock is wrong: it is %s", async (_, minutes, isCached) => {
  await using table = await createTable(engine);
  const isOff = (date: Date) => new Date(date.getTime() - minutes * 60_000).toUTCString();
  await using proxy = startProxy(table.source.endpoint, async ({ headers, body }) => {
    const answered = await fetch(table.source.endpoint, {
      method: "POST",
      headers: { ...headers, "accept-encoding": "identity" },
      body: JSON.stringify(body),
    });
    const bytes = await answered.bytes();
    const mended = new Headers(answered.headers);
    mended.set("date", isOff(new Date()));
    if (isCached) mended.set("age", "1");
    return new Response(bytes, { status: answered.status, headers: mended });
  });
  const source = { ...table.source, endpoint: proxy.endpoint };
  const { status, stdout, stderr } = await run("out", { source, params: { value: "1" } }, { words });
  const off = isCached ? 0 : minutes;
  if (isCached) expect({ status, stderr }).toEqual({ status: 0, stderr: [] });
  else
    expect({ status, stderr }).toEqual({
      status: 0,
      stderr: [
        expect.stringMatching(/^warning: this worker's clock is \d+ \w+ (ahead of|behind) DynamoDB's/),
      ],
    });
  const created = Date.parse(JSON.parse(stdout).version.created);
  expect(Math.abs(created - (Date.now() - off * 60_000))).toBeLessThan(60_000);
});
