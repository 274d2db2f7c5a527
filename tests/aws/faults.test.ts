import { describe, expect, test } from "bun:test";
import { hasDocker, startDynamodbLocal } from "../support/containers.ts";
import { type Engine, startDynalite } from "../support/engine.ts";
import { type Fault, faults, startFaultyProxy } from "../support/faults.ts";
import { dist, type StepName, unreachable, type Version } from "../support/step.ts";
import { describeSubjects } from "../support/subjects.ts";
import { awsError, startProxy } from "../support/proxy.ts";
import { createTable as createTestTable, type TestTable } from "../support/table.ts";

const dynalite = await startDynalite();
const EVER = Infinity;
/** Of a step's 60 s, and what it takes to start and to end one of hundreds: far below what a step without a limit takes. */
const LIMIT_MS = 100_000;

/** Every request of every step: what a check with and without a version and a put ask. */
const places: { step: StepName; withVersion?: boolean; operation: string; from: number }[] = [
  { step: "check", withVersion: true, operation: "Query", from: 1 },
  { step: "check", withVersion: true, operation: "Query", from: 2 },
  { step: "check", operation: "Query", from: 1 },
  { step: "check", operation: "Query", from: 2 },
  { step: "out", operation: "Query", from: 1 },
  { step: "out", operation: "Query", from: 2 },
  { step: "out", operation: "UpdateItem", from: 1 },
  { step: "out", operation: "PutItem", from: 1 },
];

/** Puts in other situations, each with the requests that differ there. */
const situations: {
  title: string;
  items: Version[];
  keep?: number;
  hasRival?: boolean;
  met: [string, number][];
}[] = [
  {
    title: "on an empty key",
    items: [],
    met: [
      ["Query", 1],
      ["UpdateItem", 1],
      ["PutItem", 1],
    ],
  },
  {
    title: "with keep",
    items: [
      { created: "2026-01-01T00:00:00.000Z", value: "1" },
      { created: "2026-01-02T00:00:00.000Z", value: "2" },
    ],
    keep: 1,
    met: [
      ["PutItem", 1],
      ["Query", 3],
      ["DeleteItem", 1],
    ],
  },
  {
    title: "beside a rival",
    items: [{ created: "2026-01-02T00:00:00.000Z", value: "2" }],
    hasRival: true,
    met: [
      ["UpdateItem", 1],
      ["PutItem", 1],
    ],
  },
];

const old = { created: "2026-01-01T00:00:00.000Z", value: "1" };
const newer = { created: "01/02/2026 00:00:00", value: "2" };

describeSubjects("with a fault", ({ createTable, run }) => {
  /** Lets a fault meet a step; expects all of its work or one line that tells why not, and an item once or not at all. */
  async function meet(
    fault: Fault,
    place: (typeof places)[number],
    times: number,
  ): Promise<{ status: number; met: number }> {
    await using table: TestTable = await createTable();
    await table.add(old, newer);
    await using proxy = await startFaultyProxy(table.source.endpoint, fault, { ...place, times });
    const source = { ...table.source, endpoint: proxy.endpoint };
    const request =
      place.step === "out"
        ? { source, params: { value: "3" } }
        : { source, version: place.withVersion ? old : null };
    const start = performance.now();
    const {
      status,
      stdout,
      stderr: lines,
    } = await run(place.step, request, {
      words: place.step === "out" ? ["/tmp"] : [],
    });
    // An answer's date may be part of the fault.
    const stderr = lines.filter((line) => !line.startsWith("warning: this worker's clock is "));
    expect(performance.now() - start).toBeLessThan(LIMIT_MS);
    const items = (await table.items()).map(({ created, value }) => ({ created, value }) as Version);
    const put = items.filter(({ value }) => value === "3");
    if (status === 0) {
      expect(stderr).toEqual([]);
      if (place.step === "out") expect(put).toEqual([JSON.parse(stdout).version]);
      else expect(JSON.parse(stdout)).toEqual([old, newer]);
    } else {
      const isInDoubt = stderr[0]?.startsWith("the value may or may not be stored (created 2");
      expect({ status, stdout, lines: stderr.length }).toEqual({
        status: isInDoubt ? 5 : 1,
        stdout: "",
        lines: 1,
      });
      expect(stderr[0]).toMatch(
        /^(table \S+ in us-east-1|127\.0\.0\.1:\d+|the value may or may not be stored |DynamoDB) ?/,
      );
      if (put.length > 0) expect(isInDoubt).toBeTrue();
    }
    expect(put.length).toBeLessThanOrEqual(1);
    expect(items.length - put.length).toBe(2);
    return { status, met: proxy.met() };
  }

  test.concurrent.each(Object.entries(faults))(
    "%s, at each request of each step",
    async (_, { fault, passes }) => {
      const all = places.flatMap((place) =>
        [1, 3].map(async (times) => ({ place, times, ...(await meet(fault, place, times)) })),
      );
      for (const { place, times, status, met } of await Promise.all(all)) {
        if (times !== 1) continue;
        expect(met).toBe(1);
        if (passes) expect({ ...place, status }).toEqual({ ...place, status: 0 });
      }
    },
  );

  // In one test, so that all of them wait at the same time.
  test.concurrent("each fault, for ever, at each request of each step", async () => {
    const all = Object.entries(faults).flatMap(([name, { fault }]) =>
      places.map(async (place) => ({ name, place, ...(await meet(fault, place, EVER)) })),
    );
    const passed = (await Promise.all(all)).filter(({ status }) => status === 0);
    // The last one has in it what was claimed, and is no page.
    expect(new Set(passed.map(({ name, place }) => `${name}, ${place.operation}`))).toEqual(
      new Set([
        ...["Query", "UpdateItem", "PutItem"].map((operation) => `a slow answer, ${operation}`),
        "a page without end, UpdateItem",
      ]),
    );
  });

  test.concurrent("silence at each request of each step, once and for ever", async () => {
    const all = places.flatMap((place) =>
      [1, EVER].map(async (times) => ({
        times,
        place,
        ...(await meet({ kind: "silence" }, place, times)),
      })),
    );
    for (const { times, place, status } of await Promise.all(all)) {
      const failed = place.operation === "PutItem" ? 5 : 1;
      expect({ times, place, status }).toEqual({ times, place, status: times === 1 ? 0 : failed });
    }
  });
});

// From dist alone: the image has the same programs.
describe.each<[string, () => Promise<Engine>]>([
  ["dynalite", async () => dynalite],
  ...(hasDocker ? [["DynamoDB Local", startDynamodbLocal] as [string, () => Promise<Engine>]] : []),
])("puts with a fault, on %s", (_, start) => {
  /** Lets a fault meet a put's requests in a situation; expects that a follower sees what is stored, and that the put tells it. */
  async function meetPut(
    fault: Fault,
    { items, keep, hasRival }: (typeof situations)[number],
    place: { operation: string; from: number; times: number },
  ): Promise<void> {
    await using table = await createTestTable(await start());
    await table.add(...items);
    await using proxy = await startFaultyProxy(table.source.endpoint, fault, place);
    const source = { ...table.source, endpoint: proxy.endpoint, ...(keep && { keep }) };
    const put = (to: object, value: string) =>
      dist.run("out", { source: to, params: { value } }, { words: ["/tmp"] });
    const [{ status, stdout, stderr }, rival] = await Promise.all([
      put(source, "mine"),
      hasRival ? put(table.source, "rival") : undefined,
    ]);
    const cursor = items.at(-1);
    const check = { source: table.source, version: cursor ?? null };
    const seen: Version[] = JSON.parse((await dist.run("check", check)).stdout);
    const followed = seen.filter(({ created }) => created !== cursor?.created);
    const stored = (await table.items()).filter(({ value }) => value === "mine" || value === "rival");
    // A follower sees all that is stored beyond its cursor, and in this order.
    expect(followed).toEqual(stored.map(({ created, value }) => ({ created, value }) as Version));
    const mine = stored.filter(({ value }) => value === "mine");
    expect(mine.length).toBeLessThanOrEqual(1);
    if (rival) expect(followed).toContainEqual(JSON.parse(rival.stdout).version);
    if (status === 0) expect(mine).toMatchObject([JSON.parse(stdout).version]);
    else if (mine.length > 0)
      expect({ status, line: stderr.at(-1) }).toEqual({
        status: 5,
        line: expect.stringMatching(/^the value may or may not be stored \(created 2/),
      });
  }

  /** Each situation, and each request that differs there. */
  const cases = situations.flatMap((situation) =>
    situation.met.map(([operation, from]) => ({ situation, operation, from })),
  );

  test.concurrent.each(Object.entries(faults))(
    "%s, once at each request of puts on an empty key, with keep and beside a rival",
    async (__, { fault }) => {
      await Promise.all(
        cases.map(({ situation, ...place }) => meetPut(fault, situation, { ...place, times: 1 })),
      );
    },
  );

  test.concurrent.each(cases.map((one) => [one.situation.title, one.operation, one] as const))(
    "each fault, for ever, of puts %s, at %s",
    async (__, ___, { situation, ...place }) => {
      const all = Object.values(faults).map(({ fault }) =>
        meetPut(fault, situation, { ...place, times: EVER }),
      );
      await Promise.all(all);
    },
  );
});

// From dist alone: it takes a minute, and what counts it is the same everywhere.
test.concurrent("silence at one request after another ends a put within a minute", async () => {
  await using table = await createTestTable(await startDynalite());
  // A key with items, whose pages must not set the deadline anew.
  await table.add(old);
  const silence: Fault = { kind: "silence" };
  await using behind = await startFaultyProxy(table.source.endpoint, silence, {
    operation: "UpdateItem",
    from: 1,
    times: EVER,
  });
  // The look's two queries are answered at their fourth attempt, 30 s later.
  await using proxy = await startFaultyProxy(behind.endpoint, silence, {
    operation: "Query",
    from: 1,
    times: 6,
  });
  const request = { source: { ...table.source, endpoint: proxy.endpoint }, params: { value: "1" } };
  const start = performance.now();
  expect(await dist.run("out", request, { words: ["/tmp"] })).toEqual({
    status: 1,
    stdout: "",
    stderr: [expect.stringMatching(/ gave no answer within 10 s \(\d attempts?\); /)],
  });
  // 45 s, after which a put sends nothing new; 70 where each page sets the deadline anew.
  expect(performance.now() - start).toBeLessThan(60_000);
  expect(await table.items()).toHaveLength(1);
});

test.concurrent("a put that is always overtaken backs off, and ends after 45 s", async () => {
  await using table = await createTestTable(await startDynalite());
  await table.add(old);
  await using proxy = startProxy(table.source.endpoint, ({ operation }) =>
    operation === "UpdateItem"
      ? awsError("ConditionalCheckFailedException", "The conditional request failed")
      : undefined,
  );
  const request = { source: { ...table.source, endpoint: proxy.endpoint }, params: { value: "1" } };
  const start = performance.now();
  expect(await dist.run("out", request, { words: ["/tmp"] })).toEqual({
    status: 1,
    stdout: "",
    stderr: [
      expect.stringMatching(
        /other puts of this key were faster \d+ times.*; nothing is stored\. |no time was left for dynamodb:/,
      ),
    ],
  });
  expect(performance.now() - start).toBeWithin(43_000, 60_000);
  // A second apart on average; without back-off there were thousands.
  expect(proxy.asked.length).toBeLessThan(400);
  expect(await table.items()).toHaveLength(1);
});

test.concurrent("STS that always throttles ends a step within a minute, and it says so", async () => {
  using sts = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: () =>
      new Response(
        "<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>",
        { status: 400 },
      ),
  });
  const source = { ...unreachable, role_arn: "arn:aws:iam::123456789012:role/concourse" };
  const { stderr } = await dist.run("check", { source }, { env: { AWS_ENDPOINT_URL_STS: sts.url.origin } });
  expect(stderr).toEqual([
    expect.stringMatching(/^STS failed or throttled \(Throttling, HTTP 400, \d\d attempts\); try again$/),
  ]);
});

test.concurrent("STS that falls silent near the end of a put's time is named, not DynamoDB", async () => {
  const answersUntil = performance.now() + 9000;
  using sts = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    idleTimeout: 0,
    fetch: () =>
      performance.now() < answersUntil
        ? new Response("busy", { status: 503 })
        : new Promise<Response>(() => {}),
  });
  const source = { ...unreachable, role_arn: "arn:aws:iam::123456789012:role/concourse" };
  const { stderr } = await dist.run(
    "out",
    { source, params: { value: "1" } },
    { words: ["/tmp"], env: { AWS_ENDPOINT_URL_STS: sts.url.origin } },
  );
  expect(stderr).toEqual([
    expect.stringMatching(/^127\.0\.0\.1:\d+ gave no answer within 10 s .* while assuming a role at STS; /),
  ]);
});
