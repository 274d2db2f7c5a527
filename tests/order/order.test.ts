import { describe, expect, test } from "bun:test";
import { oldStyleCreated } from "../../shared/created.ts";
import { awsError, startProxy } from "../support/proxy.ts";
import type { Answer, Version } from "../support/step.ts";
import { describeSubjects } from "../support/subjects.ts";
import type { TestTable } from "../support/table.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const words = ["/tmp"];

const ago = (ms: number) => new Date(Date.now() - ms).toISOString();

const byCreated = (a: Version, b: Version) => (a.created < b.created ? -1 : 1);
const hoursAgo = (...hours: number[]) =>
  hours.map((one) => ({ created: ago(one * HOUR), value: `${one} hours` }));
const oldHoursAgo = (...hours: number[]) =>
  hours.map((one) => ({ created: oldStyleCreated(Date.now() - one * HOUR), value: `${one} hours` }));

describeSubjects("the order of puts", ({ createTable, run, answerOf }) => {
  const put = async (table: TestTable, value: string, endpoint = table.source.endpoint) => {
    const request = { source: { ...table.source, endpoint }, params: { value } };
    return (await answerOf<Answer>("out", request, { words })).version;
  };

  test.each<[string, () => Version[]]>([
    ["an empty key", () => []],
    ["a used key", () => [{ created: "2026-01-01T00:00:00.000Z", value: "0" }]],
    ["a key with old-style items", () => [{ created: "01/01/2026 00:00:00", value: "0" }]],
    ["a key ahead of the clock", () => [{ created: ago(-HOUR), value: "0" }]],
  ])("24 puts at once on %s: each is stored once, at a place of its own", async (_, given) => {
    await using table = await createTable();
    const items = given();
    await table.add(...items);
    const values = Array.from({ length: 24 }, (__, index) => `value ${index}`);
    const versions = await Promise.all(values.map((value) => put(table, value)));
    const stored = (await table.items()).map(({ created, value }) => ({ created, value }));
    expect(stored).toEqual([...items, ...versions].toSorted(byCreated) as typeof stored);
    expect(new Set(stored.map(({ created }) => created)).size).toBe(items.length + 24);
    expect((await table.head())?.put_next).toBe(stored.at(-1)?.created as string);
  });

  test.each<[string, () => string, string[]]>([
    ["a minute", () => ago(-MINUTE), []],
    [
      "ten minutes",
      () => ago(-10 * MINUTE),
      ["warning: the key's newest version was 10 minutes in the future"],
    ],
    [
      "ten minutes, old-style",
      () => oldStyleCreated(Date.now() + 10 * MINUTE),
      ["warning: the key's newest version was 10 minutes in the future"],
    ],
  ])("follows a newest item that is ahead of the clock by %s", async (_, spell, lines) => {
    await using table = await createTable();
    const newest = spell();
    await table.add({ created: newest, value: "newest" }, { created: ago(HOUR), value: "older" });
    const { status, stdout, stderr } = await run(
      "out",
      { source: table.source, params: { value: "1" } },
      { words },
    );
    expect({ status, stderr }).toEqual({
      status: 0,
      stderr: lines.map((line): string => expect.stringContaining(line)),
    });
    const { version } = JSON.parse(stdout);
    expect(Date.parse(version.created)).toBe(Date.parse(newest.includes("/") ? `${newest} UTC` : newest) + 1);
    expect(await answerOf<unknown>("check", { source: table.source, version: { created: newest } })).toEqual([
      { created: newest, value: "newest" },
      version,
    ]);
  });

  test.each<[string, number, number]>([
    ["fresh", 50, MINUTE],
    ["old", 48 * HOUR, 49 * HOUR],
    ["of a clock that is ahead", -MINUTE, MINUTE],
  ])("fills a claim that was left behind, %s", async (_, placeAge, newestAge) => {
    await using table = await createTable();
    const [place, newest] = [ago(placeAge), ago(newestAge)];
    await table.add({ created: newest, value: "0" });
    await table.claim(place);
    expect(await put(table, "1")).toEqual({ value: "1", created: place });
    const next = await put(table, "2");
    expect(next.created > place).toBeTrue();
    expect((await table.head())?.put_next).toBe(next.created);
  });

  test.each<[string, string]>([
    ["at the newest item", "2026-01-01T00:00:00.000Z"],
    ["before it", "2025-12-01T00:00:00.000Z"],
    ["no time", "soon"],
    ["of another century", "1999-01-01T00:00:00.000Z"],
  ])("a head whose put_next is %s claims nothing", async (_, putNext) => {
    await using table = await createTable();
    await table.add({ created: "2026-01-01T00:00:00.000Z", value: "0" });
    await table.claim(putNext);
    const { created } = await put(table, "1");
    expect(created > ago(MINUTE)).toBeTrue();
    expect((await table.head())?.put_next).toBe(created);
  });

  test("items whose created is no time are no part of the order", async () => {
    await using table = await createTable();
    const odd = ["zzz", "2999", "2998-99-99T00:00:00.000Z", "12/12/2999", "15/01/2999 00:00:00"];
    await table.add(...odd.map((created) => ({ created, value: "odd" })), {
      created: ago(-MINUTE),
      value: "newest",
    });
    const { created } = await put(table, "1");
    expect(created < ago(-2 * MINUTE)).toBeTrue();
    expect(await table.items()).toHaveLength(odd.length + 2);
  });

  test("after an item at the end of time nothing can be put, and it says so", async () => {
    await using table = await createTable();
    await table.add({ created: "9999-12-31T23:59:59.999Z", value: "0" });
    const { status, stderr } = await run("out", { source: table.source, params: { value: "1" } }, { words });
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: [
        expect.stringMatching(
          /9999-12-31T23:59:59.999Z\), so no newer version can be put; nothing is stored.* delete-item /,
        ),
      ],
    });
  });

  test("where UpdateItem is denied, a put succeeds, after the newest item, and warns", async () => {
    await using table = await createTable();
    await table.add({ created: ago(-MINUTE), value: "0" });
    await using proxy = startProxy(table.source.endpoint, ({ operation }) =>
      operation === "UpdateItem"
        ? awsError("AccessDeniedException", "not authorized to perform: dynamodb:UpdateItem")
        : undefined,
    );
    const source = { ...table.source, endpoint: proxy.endpoint };
    const { status, stdout, stderr } = await run("out", { source, params: { value: "1" } }, { words });
    expect({ status, stderr }).toEqual({
      status: 0,
      stderr: [expect.stringContaining("dynamodb:UpdateItem")],
    });
    expect((await table.items()).at(-1)).toMatchObject(JSON.parse(stdout).version);
    expect(await table.head()).toBeUndefined();
  });

  test("where UpdateItem is denied, 24 puts at once are all stored, each at a place of its own", async () => {
    await using table = await createTable();
    await using proxy = startProxy(table.source.endpoint, ({ operation }) =>
      operation === "UpdateItem" ? awsError("AccessDeniedException", "no") : undefined,
    );
    const values = Array.from({ length: 24 }, (_, index) => `value ${index}`);
    const versions = await Promise.all(values.map((value) => put(table, value, proxy.endpoint)));
    expect(await table.items()).toMatchObject(versions.toSorted(byCreated));
  });

  test("a refusal is no matter of the clock, however far away DynamoDB's is", async () => {
    await using table = await createTable();
    await put(table, "0");
    let claims = 0;
    await using proxy = startProxy(table.source.endpoint, ({ operation }) => {
      if (operation !== "UpdateItem" || claims++ > 0) return undefined;
      const answer = awsError("ConditionalCheckFailedException", "The conditional request failed");
      answer.headers.set("date", new Date(Date.now() + HOUR).toUTCString());
      return answer;
    });
    await put(table, "1", proxy.endpoint);
    expect(proxy.asked.map(({ operation }) => operation)).toEqual([
      "Query",
      "Query",
      "UpdateItem",
      "Query",
      "Query",
      "UpdateItem",
      "PutItem",
    ]);
  });

  test("a wrong clock is corrected by what DynamoDB says", async () => {
    await using table = await createTable();
    let refused = 0;
    await using proxy = startProxy(table.source.endpoint, () => {
      if (refused++ > 0) return undefined;
      const answer = awsError("InvalidSignatureException", "Signature not yet current");
      answer.headers.set("date", new Date(Date.now() + HOUR).toUTCString());
      return answer;
    });
    await answerOf("check", { source: { ...table.source, endpoint: proxy.endpoint } });
    const [first, second] = proxy.asked.map(({ headers }) => headers["x-amz-date"]!);
    const hours = (text: string) => Number(text.slice(9, 11));
    expect((hours(second!) - hours(first!) + 24) % 24).toBe(1);
  });

  test("many items whose created is no time cost a put few requests", async () => {
    await using table = await createTable();
    await table.add(
      ...Array.from({ length: 1000 }, (_, index) => ({ created: `zz-${index}`, value: "odd" })),
    );
    await using proxy = startProxy(table.source.endpoint, () => undefined);
    await put(table, "1", proxy.endpoint);
    expect(proxy.asked.length).toBeLessThan(15);
  });

  test("a put asks four requests", async () => {
    await using table = await createTable();
    await put(table, "0");
    await using proxy = startProxy(table.source.endpoint, () => undefined);
    await put(table, "1", proxy.endpoint);
    const operations = proxy.asked.map(({ operation }) => operation);
    expect(operations).toEqual(["Query", "Query", "UpdateItem", "PutItem"]);
  });

  test.each<[string, () => Response, number]>([
    ["an error in place of the answer", () => awsError("InternalServerError", "the answer is lost", 500), 2],
    [
      "half an answer",
      () => new Response('{"Attr', { headers: { "content-type": "application/x-amz-json-1.0" } }),
      2,
    ],
    ["a page of a portal", () => new Response("<html>", { headers: { "content-type": "text/html" } }), 2],
  ])("a put whose answer was lost is recognised as its own: %s", async (_, answer, requests) => {
    await using table = await createTable();
    let lost = 0;
    await using proxy = startProxy(table.source.endpoint, async ({ operation, body }) => {
      if (operation !== "PutItem" || lost++ > 0) return undefined;
      await table.send(operation, body);
      return answer();
    });
    const version = await put(table, "1", proxy.endpoint);
    expect(lost).toBe(requests);
    expect(await table.items()).toMatchObject([version]);
    expect(await table.items()).toHaveLength(1);
  });

  test.each([
    ["a history at its end", { created: "9999-12-31T23:59:59.999Z", value: "0" }, 1],
    ["a history ahead", { created: "9000-01-01T00:00:00.000Z", value: "0" }, 0],
  ])("no command deletes anything where the engine tells no time: %s", async (_, item, status) => {
    await using table = await createTable();
    await table.add(item);
    await using proxy = startProxy(table.source.endpoint, async ({ headers, body }) => {
      const answer = await fetch(table.source.endpoint, {
        method: "POST",
        headers,
        body: JSON.stringify(body),
      });
      const timeless = new Headers(answer.headers);
      // Of a cache: it tells no time.
      timeless.set("age", "1");
      return new Response(await answer.bytes(), { status: answer.status, headers: timeless });
    });
    const source = { ...table.source, endpoint: proxy.endpoint };
    const { stderr, ...ended } = await run("out", { source, params: { value: "1" } }, { words });
    expect(ended.status).toBe(status);
    expect(stderr).toEqual([expect.stringContaining('README, "Repair a history from the future"')]);
    expect(stderr[0]).not.toContain("aws dynamodb");
  });

  describe("keep", () => {
    test.each<[string, number | string, () => Version[], string[]]>([
      ["1", 1, () => hoursAgo(9, 8, 7), ["7 hours", "new"]],
      ["2", 2, () => hoursAgo(9, 8, 7), ["7 hours", "new"]],
      ["3, as text", "3", () => hoursAgo(9, 8, 7), ["8 hours", "7 hours", "new"]],
      ["4", 4, () => hoursAgo(9, 8, 7), ["9 hours", "8 hours", "7 hours", "new"]],
      ["more than there are", 100, () => hoursAgo(9), ["9 hours", "new"]],
      [
        "1, with items less than an hour old",
        1,
        () => hoursAgo(9, 8, 0.9, 0.5),
        ["8 hours", "0.9 hours", "0.5 hours", "new"],
      ],
      [
        "1, with the next newer item less than an hour old",
        1,
        () => hoursAgo(9, 0.5),
        ["9 hours", "0.5 hours", "new"],
      ],
      ["2, of old-style items", 2, () => oldHoursAgo(9, 8, 7, 6), ["6 hours", "new"]],
      [
        "3, of both spellings",
        3,
        () => [...oldHoursAgo(9, 7), ...hoursAgo(8, 6)],
        ["7 hours", "6 hours", "new"],
      ],
    ])("%s", async (_, keep, items, left) => {
      await using table = await createTable();
      await table.add(...items());
      const source = { ...table.source, keep };
      const { status, stderr } = await run("out", { source, params: { value: "new" } }, { words });
      expect({ status, stderr }).toEqual({ status: 0, stderr: [] });
      const versions = await answerOf<Version[]>("check", { source });
      expect(versions.map(({ value }) => value)).toEqual(left);
      expect((await table.head())?.put_next).toBe(versions.at(-1)?.created as string);
    });

    test("deletes 100 at most, the oldest, and leaves what is no version of its own", async () => {
      await using table = await createTable();
      const start = Date.UTC(2025, 0);
      const items = Array.from({ length: 150 }, (_, index) => ({
        created: new Date(start + index * HOUR).toISOString(),
        value: `${index}`,
      }));
      await table.add(...items, { created: "2025-01-00", value: "odd" });
      const source = { ...table.source, keep: 1 };
      const { version } = await answerOf<Answer>("out", { source, params: { value: "new" } }, { words });
      const left = (await table.items()).map(({ value }) => value);
      expect(left).toEqual(["odd", ...items.slice(100).map(({ value }) => value), "new"]);
      await answerOf("out", { source, params: { value: "newer" } }, { words });
      expect((await table.items()).map(({ value }) => value)).toEqual(["odd", "149", "new", "newer"]);
      expect(version.value).toBe("new");
    });

    test("counts no old-style versions of the future, which check does not give", async () => {
      await using table = await createTable();
      const future = [1, 2, 3].map((day) => ({ created: `11/0${day}/2936 10:00:00`, value: "future" }));
      await table.add(...future, ...hoursAgo(9, 8, 7, 6));
      const source = { ...table.source, keep: 3 };
      await answerOf("out", { source, params: { value: "new" } }, { words });
      const left = (await table.items()).map(({ value }) => value);
      expect(left).toEqual(["future", "future", "future", "7 hours", "6 hours", "new"]);
    });

    test("leaves an old-style version of another century where it is to be kept", async () => {
      await using table = await createTable();
      await table.add({ created: "01/02/1999 10:00:00", value: "old" });
      const request = { source: { ...table.source, keep: 2 }, params: { value: "new" } };
      expect(await run("out", request, { words })).toMatchObject({ status: 0, stderr: [] });
      expect(await table.items()).toHaveLength(2);
    });

    test("that may not delete warns, and the put succeeds", async () => {
      await using table = await createTable();
      await table.add(...hoursAgo(9, 8, 7));
      await using proxy = startProxy(table.source.endpoint, ({ operation }) =>
        operation === "DeleteItem" ? awsError("AccessDeniedException", "no") : undefined,
      );
      const source = { ...table.source, keep: 1, endpoint: proxy.endpoint };
      const { status, stderr } = await run("out", { source, params: { value: "new" } }, { words });
      expect({ status, stderr }).toEqual({
        status: 0,
        stderr: [expect.stringMatching(/^warning: the value is stored, but .*dynamodb:DeleteItem/)],
      });
      expect(await table.items()).toHaveLength(4);
    });
  });
});
