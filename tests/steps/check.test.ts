import { expect, test } from "bun:test";
import { oldStyleCreated } from "../../shared/created.ts";
import manifest from "../../package.json";
import { startProxy } from "../support/proxy.ts";
import type { Version } from "../support/step.ts";
import { describeSubjects } from "../support/subjects.ts";

const INITIAL = "1970-01-01T00:00:00.000Z";

/** Items whose value is their `created`, so that an answer shows at once which ones it has. */
const named = (...created: string[]) => created.map((one) => ({ created: one, value: one }));

describeSubjects("check", ({ createTable, command, run, answerOf }) => {
  const old = ["12/30/2023 10:00:00", "12/31/2023 23:59:59", "01/01/2024 00:00:00", "03/05/2025 06:07:08"];
  const iso = ["2023-12-31T23:59:59.500Z", "2024-01-01T00:00:00.000Z", "2026-11-01T00:00:00.000Z"];
  // By time; at the first moment of 2024 there are both spellings.
  const history = [old[0], old[1], iso[0], old[2], iso[1], old[3], iso[2]] as string[];
  const newest = history.slice(-1);

  test.each<[string, unknown, string[]]>([
    ["no version", undefined, history],
    ["null", null, history],
    ["the oldest", { created: old[0] }, history],
    ["an old-style one before a year's end", { created: old[1] }, history.slice(1)],
    ["an old-style one at the time of an ISO one", { created: old[2] }, history.slice(3)],
    ["an ISO one at the time of an old-style one", { created: iso[1] }, history.slice(4)],
    ["an ISO one with a newer old-style one", { created: iso[0] }, history.slice(2)],
    ["the newest", { created: iso[2] }, newest],
    ["a whole version", { created: iso[2], value: "another value" }, newest],
    ["a lost one with newer ones", { created: "2024-06-01T00:00:00.000Z" }, history.slice(5)],
    ["a lost old-style one with newer ones", { created: "06/01/2024 00:00:00" }, history.slice(5)],
    ["a lost one with none newer", { created: "2026-11-02T00:00:00.000Z" }, newest],
    ["the initial one", { created: INITIAL }, history],
    ["one without created", { ref: "61cbef" }, newest],
    ["one whose created is no time", { created: "yesterday" }, newest],
    ["a day", { created: "2024-01-01" }, history.slice(3)],
    ["one whose created is no text", { created: 5 }, newest],
    ["an empty one", {}, newest],
    ["one of long ago", { created: "0001-01-01T00:00:00.000Z" }, history],
    ["one at the end of time", { created: "9999-12-31T23:59:59.999Z" }, newest],
  ])("both spellings, from %s", async (_, version, expected) => {
    await using table = await createTable();
    await table.add(...named(...history));
    const answer = await answerOf<Version[]>("check", { source: table.source, version });
    expect(answer).toEqual(named(...expected));
  });

  test("across the year's end, old-style items are newer than a cursor of today's spelling", async () => {
    await using table = await createTable();
    const year = new Date().getUTCFullYear() + 1;
    const cursor = `${year}-12-31T12:00:00.000Z`;
    const last = `${year + 1}-01-01T07:00:00.000Z`;
    const items = [cursor, `12/31/${year} 13:00:00`, `01/01/${year + 1} 06:00:00`, last];
    const older = [`12/31/${year - 1} 13:00:00`, `01/01/${year} 06:00:00`, `11/11/${year} 11:11:11`];
    await table.add(...named(...items, ...older));
    const answer = await answerOf<Version[]>("check", { source: table.source, version: { created: cursor } });
    expect(answer).toEqual(named(...items));
  });

  test.each<[string, number | string | undefined, number]>([
    ["1000 by default", undefined, 1000],
    ["as many as history says", 3, 3],
    ["a number as text", "7", 7],
    ["more than there are", 5000, 1030],
  ])("no version: %s, in both spellings", async (_, limit, count) => {
    await using table = await createTable();
    const start = Date.UTC(2026, 0);
    // One in ten is old-style, so that every answer has both.
    const created = Array.from({ length: 1030 }, (__, index) => {
      const time = start + index * 60_000;
      return index % 10 === 5 ? oldStyleCreated(time) : new Date(time).toISOString();
    });
    await table.add(...named(...created));
    const source = { ...table.source, ...(limit !== undefined && { history: limit }) };
    expect(await answerOf<Version[]>("check", { source })).toEqual(named(...created.slice(-count)));
  });

  test("more than 1 MB of items, all of them through a slow pipe", async () => {
    await using table = await createTable();
    const items = Array.from({ length: 40 }, (_, index) => {
      const time = Date.UTC(2026, 0) + index * 1000;
      const created = index % 2 === 0 ? oldStyleCreated(time) : new Date(time).toISOString();
      return { created, value: `${index}`.padEnd(100_000, "é") };
    });
    for (const item of items) await table.add(item);
    for (const version of [undefined, { created: items[0]?.created }]) {
      const { cmd, ...options } = await command("check");
      const child = Bun.spawn(["sh", "-c", `"$0" "$@" | (sleep 0.3; cat)`, ...cmd], {
        ...options,
        stdin: Buffer.from(JSON.stringify({ source: table.source, version })),
      });
      expect(JSON.parse(await child.stdout.text())).toEqual(items);
    }
  });

  test("items that cannot be versions are skipped, each with a warning", async () => {
    await using table = await createTable();
    const bad = {
      "2026-01-02T00:00:00.000Z": { note: { S: "no value" } },
      "2026-01-03T00:00:00.000Z": { value: { B: Buffer.from("binary") } },
      "2026-01-04T00:00:00.000Z": { value: { S: "N\0L" } },
      "2026-01-05T00:00:00.000Z": { value: { M: {} } },
      "2026-01-06T00:00:00.000Z": { value: { BOOL: true } },
      "2026-01-07T00:00:00.000Z": { value: { NULL: true } },
      "2026-01-08T00:00:00.000Z": { value: { SS: ["a"] } },
      "2026-02-31T00:00:00.000Z": { value: { S: "no day" } },
      "2026-1-9": { value: { S: "no time" } },
      yesterday: { value: { S: "no time" } },
      "01/10/2026 1:00:00": { value: { S: "no time" } },
    };
    await table.add(
      ...Object.entries(bad).map(([created, value]) => ({ created, value })),
      { created: "2026-01-01T00:00:00.000Z", value: "first" },
      { created: "01/01/2026 01:00:00", value: { value: { N: "42" } } },
      { created: "2026-01-09T00:00:00.000Z", value: "last" },
    );
    const good = [
      { value: "first", created: "2026-01-01T00:00:00.000Z" },
      { value: "42", created: "01/01/2026 01:00:00" },
      { value: "last", created: "2026-01-09T00:00:00.000Z" },
    ];
    for (const version of [undefined, good[0]]) {
      const { status, stdout, stderr } = await run("check", { source: table.source, version });
      expect({ status, answer: JSON.parse(stdout) }).toEqual({ status: 0, answer: good });
      expect(stderr.length).toBe(Object.keys(bad).length);
      for (const created of Object.keys(bad)) {
        expect(
          stderr.filter((line) => line.startsWith("warning: ") && line.includes(`"${created}"`)),
        ).toHaveLength(1);
      }
    }
    const lastTwo = await answerOf<Version[]>("check", { source: { ...table.source, history: 2 } });
    expect(lastTwo).toEqual(good.slice(1));
  });

  test.each<[string, unknown, unknown]>([
    ["no version", undefined, "0.0.0"],
    ["itself", { value: "0.0.0", created: INITIAL }, "0.0.0"],
    ["a lost version", { created: "2026-01-01T00:00:00.000Z" }, "0.0.0"],
    ["a whole number", undefined, 7],
    ["nothing", undefined, ""],
  ])("without items, initial_value is the one version: %s", async (_, version, initial) => {
    await using table = await createTable();
    const source = { ...table.source, initial_value: initial };
    const expected = [{ value: String(initial), created: INITIAL }];
    expect(await answerOf<unknown>("check", { source, version })).toEqual(expected);
    await table.add({ created: "2026-01-01T00:00:00.000Z", value: "1" });
    expect(await answerOf<unknown>("check", { source, version: expected[0] })).toEqual([
      { value: "1", created: "2026-01-01T00:00:00.000Z" },
    ]);
  });

  test.each([undefined, null, { created: "2026-01-01T00:00:00.000Z" }])(
    "without items and initial_value, an empty list: %j",
    async (version) => {
      await using table = await createTable();
      await table.claim("2026-01-01T00:00:00.000Z");
      const outcome = await run("check", { source: table.source, version });
      expect(outcome).toEqual({ status: 0, stdout: "[]\n", stderr: [] });
    },
  );

  test.each(["bucket", "data", "my-key", "a.b", "#key", ":key", "key", "с пробелами", "🔑", "size"])(
    "an odd or reserved attribute name, and key: %s",
    async (name) => {
      await using table = await createTable({ partitionKey: name });
      const source = { ...table.source, key: `${name} = :from OR "x"` };
      const words = ["/tmp"];
      const { version } = await answerOf<{ version: Version }>(
        "out",
        { source, params: { value: "1" } },
        { words },
      );
      expect(await answerOf<unknown>("check", { source })).toEqual([version]);
      expect(await answerOf<unknown>("check", { source, version })).toEqual([version]);
      expect(await table.items()).toMatchObject([{ [name]: source.key, value: "1" }]);
    },
  );

  test("a known version that is deleted while the check reads hides no newer one", async () => {
    await using table = await createTable();
    const cursor = `01/01/${new Date().getUTCFullYear()} 00:00:00`;
    await table.add(...named(cursor));
    const newer = named("2999-01-01T00:00:00.000Z", "2999-01-02T00:00:00.000Z");
    const { promise: isoIsRead, resolve: readIso } = Promise.withResolvers<void>();
    let reads = 0;
    await using proxy = startProxy(table.source.endpoint, async ({ body }) => {
      if (reads++ > 1) return undefined;
      if (!String(body.KeyConditionExpression).includes("BETWEEN")) {
        const answer = await fetch(table.source.endpoint, {
          method: "POST",
          headers: proxy.asked.at(-1)?.headers ?? {},
          body: JSON.stringify(body),
        });
        readIso();
        return answer;
      }
      // Between the check's two queries, two puts with keep come and go.
      await isoIsRead;
      await table.add(...newer);
      await table.remove(cursor);
      return undefined;
    });
    const source = { ...table.source, endpoint: proxy.endpoint };
    expect(await answerOf<unknown>("check", { source, version: { created: cursor } })).toEqual(newer);
  });

  const day = (count: number) => Date.now() + count * 24 * 60 * 60 * 1000;
  const isoDay = (count: number) => new Date(day(count)).toISOString();
  const oldStyleDay = (count: number) => oldStyleCreated(day(count));

  test.each([
    ["ISO, then old-style, after the ISO query", isoDay(-3), ["iso", "old-style"], "iso"],
    ["old-style, then ISO, after the old-style query", isoDay(-3), ["old-style", "iso"], "old-style"],
    ["ISO, then old-style, after the ISO query; no cursor", undefined, ["iso", "old-style"], "iso"],
  ])("what is put between two queries hides nothing that is older: %s", async (_, from, order, first) => {
    await using table = await createTable();
    const start = named(from ?? isoDay(-4));
    await table.add(...start);
    const items = named(
      ...order.map((spelling, index) => (spelling === "iso" ? isoDay : oldStyleDay)(index - 2)),
    );
    const { promise: firstIsRead, resolve: readFirst } = Promise.withResolvers<void>();
    const asked = new Set<string>();
    await using proxy = startProxy(table.source.endpoint, async ({ body, headers }) => {
      const { ":from": rangeStart } = body.ExpressionAttributeValues as { ":from": { S: string } };
      const spelling = rangeStart.S >= "2" ? "iso" : "old-style";
      if (asked.has(spelling)) return undefined;
      asked.add(spelling);
      if (spelling !== first) {
        await firstIsRead;
        return undefined;
      }
      const sent = { method: "POST", headers, body: JSON.stringify(body) };
      const answer = await fetch(table.source.endpoint, sent);
      for (const item of items) await table.add(item);
      readFirst();
      return answer;
    });
    const source = { ...table.source, endpoint: proxy.endpoint };
    let version = from === undefined ? undefined : { created: from };
    const seen: Version[] = [];
    for (let checks = 0; checks < 3; checks++) {
      const answer = await answerOf<Version[]>("check", { source, version });
      seen.push(...answer.filter(({ created }) => created !== version?.created));
      version = answer.at(-1);
    }
    expect(seen).toEqual(from === undefined ? [...start, ...items] : items);
  });

  test.each([
    ["nothing new", [], 2],
    ["an ISO item", [isoDay(-1)], 3],
    ["an old-style item", [oldStyleDay(-1)], 3],
  ])("a check from a cursor costs as few queries as it can: %s", async (_, items, queries) => {
    await using table = await createTable();
    const cursor = isoDay(-2);
    await table.add(...named(cursor, ...items));
    await using proxy = startProxy(table.source.endpoint, () => undefined);
    const source = { ...table.source, endpoint: proxy.endpoint };
    const answer = await answerOf<Version[]>("check", { source, version: { created: cursor } });
    expect(answer).toEqual(named(cursor, ...items));
    // At a year's start, the old-style items are in two ranges.
    if (new Date(day(-2)).getUTCFullYear() === new Date(day(1)).getUTCFullYear())
      expect(proxy.asked).toHaveLength(queries);
  });

  test("two puts between an empty range and the query for the newest item are both given", async () => {
    await using table = await createTable();
    const cursor = isoDay(-2);
    const newer = named(isoDay(-1), isoDay(-0.5));
    await using proxy = startProxy(table.source.endpoint, async ({ body }) => {
      if (body.ScanIndexForward === false) await table.add(...newer);
      return undefined;
    });
    const source = { ...table.source, endpoint: proxy.endpoint };
    expect(await answerOf<unknown>("check", { source, version: { created: cursor } })).toEqual(newer);
  });

  test.each([
    ["of one spelling", (time: number) => new Date(time).toISOString(), 390_000],
    ["old-style, of two years", (time: number) => oldStyleCreated(time), 390_000],
    [
      "of both, neither too much by itself",
      (time: number) => (time % 2000 === 0 ? oldStyleCreated(time) : new Date(time).toISOString()),
      300_000,
    ],
    [
      "of both, small ones among them",
      (time: number) => (time % 7000 < 2000 ? oldStyleCreated(time) : new Date(time).toISOString()),
      200_000,
    ],
  ])("an answer has 8 MiB at most, and nothing is lost: %s", async (_, spell, size) => {
    await using table = await createTable();
    // The days that two years have in common, so that old-style keys are in another order than the times.
    const times = [2024, 2025].flatMap((year) =>
      Array.from({ length: 30 }, (__, index) => Date.UTC(year, 5, 1) + index * 1000),
    );
    const items = times.map((time, index) => ({
      created: spell(time),
      value: `${index}`.padEnd(index % 3 === 2 ? 1000 : size, "x"),
    }));
    for (const item of items) await table.add(item);
    const { source } = table;
    const isWithin = (text: string) => text.length <= 8 * 1024 * 1024 && text.length > 7 * 1024 * 1024;

    const first = await run("check", { source });
    const latest: Version[] = JSON.parse(first.stdout);
    if (size > 200_000) {
      expect(isWithin(first.stdout)).toBe(true);
      expect(first.stderr).toEqual([
        `warning: only the newest ${latest.length} versions are returned, because a check returns at most 8 MiB`,
      ]);
    }
    expect(latest.map(({ created }) => created)).toEqual(
      items.slice(-latest.length).map(({ created }) => created),
    );

    const seen = [items[0]!.created];
    let warnings = 0;
    for (let checks = 0; checks < 4; checks++) {
      const { stdout, stderr } = await run("check", { source, version: { created: seen.at(-1) } });
      const answer: Version[] = JSON.parse(stdout);
      expect(stdout.length).toBeLessThanOrEqual(8 * 1024 * 1024);
      if (stderr.length > 0) expect(isWithin(stdout)).toBe(true);
      warnings += stderr.length;
      expect(answer[0]?.created).toBe(seen.at(-1));
      seen.push(...answer.slice(1).map(({ created }) => created));
    }
    expect(seen).toEqual(items.map(({ created }) => created));
    expect(warnings).toBe(size > 200_000 ? 1 : 0);
  });

  test.each([
    ["ISO", (time: number) => new Date(time).toISOString()],
    ["old-style", oldStyleCreated],
  ])("60 MB of values take less than 128 MiB of memory: %s", async (_, spell) => {
    await using table = await createTable();
    const createds = Array.from({ length: 150 }, (__, index) => spell(Date.UTC(2026, 0) + index * 1000));
    for (const created of createds) await table.add({ created, value: "x".repeat(400_000) });
    for (const version of [undefined, { created: createds[0] }]) {
      const { cmd, ...options } = await command("check");
      const child = Bun.spawn(cmd, {
        ...options,
        stdin: Buffer.from(JSON.stringify({ source: table.source, version })),
        stderr: "ignore",
      });
      const answer = child.stdout.json();
      // What resourceUsage() tells counts this process too, as of when it became the other.
      let peak = 0;
      while (child.exitCode === null) {
        const status = await Bun.file(`/proc/${child.pid}/status`)
          .text()
          .catch(() => "");
        peak = Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? peak);
        await Bun.sleep(1);
      }
      expect(await answer).toHaveLength(20);
      expect(peak).toBeGreaterThan(0);
      expect(peak).toBeLessThan(128 * 1024);
    }
  });

  test.each([-20, -10, undefined])(
    "an item of the future that is no version holds nothing back: from day %p",
    async (cursorDay) => {
      await using table = await createTable();
      const [past, ahead] = [isoDay(-20), oldStyleDay(500)];
      const bad = isoDay(1000);
      await table.add(...named(past, ahead), { created: bad, value: { value: { BOOL: true } } });
      const version = cursorDay && { created: cursorDay === -20 ? past : isoDay(cursorDay) };
      const { status, stdout, stderr } = await run("check", { source: table.source, version });
      expect({ status, stderr }).toEqual({
        status: 0,
        stderr: [
          `warning: the item with created ${JSON.stringify(bad)} is skipped: its value is neither a string nor a number`,
        ],
      });
      expect((JSON.parse(stdout) as Version[]).map(({ created }) => created)).toEqual(
        cursorDay === -10 ? [ahead] : [past, ahead],
      );
    },
  );

  test("of many items that cannot be versions the first are named", async () => {
    await using table = await createTable();
    const bad = Array.from({ length: 50 }, (_, index) => isoDay(-100 + index));
    await table.add(...bad.map((created) => ({ created, value: { value: { BOOL: true } } })));
    const { stdout, stderr } = await run("check", { source: table.source, version: { created: bad[0] } });
    expect(JSON.parse(stdout)).toEqual([]);
    expect(stderr.filter((line) => line.includes(bad[0]!))).toHaveLength(1);
    expect(stderr).toContain("warning: 30 more items are skipped, because they cannot be versions");
    expect(stderr.length).toBeLessThanOrEqual(2 * 21);
  });

  test("old-style items more than a day ahead wait, with a warning", async () => {
    await using table = await createTable();
    const [cursor, soon, late] = [isoDay(-1), oldStyleDay(0.9), oldStyleDay(3)];
    const { source } = table;
    const check = async (version?: unknown) => {
      const { stdout, stderr } = await run("check", { source, version });
      return { createds: (JSON.parse(stdout) as Version[]).map(({ created }) => created), stderr };
    };
    const warning = `warning: 1 item is skipped for now: created ${JSON.stringify(late)} is more than 24 hours in the future; check the clock of the worker that put it`;
    await table.add(...named(late));
    expect(await check()).toEqual({ createds: [], stderr: [warning] });
    await table.add(...named(cursor, soon));
    expect(await check()).toEqual({ createds: [cursor, soon], stderr: [warning] });
    expect((await check({ created: cursor })).createds).toEqual([cursor, soon]);
    expect(await check({ created: late })).toEqual({ createds: [late], stderr: [] });
    // An ISO item that is later still has them given, whatever their number.
    const last = isoDay(9);
    await table.add(...named(oldStyleDay(7), last));
    const all = [soon, late, oldStyleDay(7), last];
    expect((await check()).createds).toHaveLength(5);
    expect((await check({ created: cursor })).createds.slice(-1)).toEqual([last]);
    expect((await check({ created: cursor })).createds).toHaveLength(1 + all.length);
  });

  test.each<[unknown, string | RegExp]>([
    [{ created: "yesterday" }, '"yesterday" is not a valid timestamp'],
    [{ created: "2026-01-02T00:00:00" }, '"2026-01-02T00:00:00" is not a valid timestamp'],
    [{ value: "v-3" }, "is missing or not a string"],
    [{ ref: "abc" }, "is missing or not a string"],
  ])("a version that is no cursor gives the newest version, with a warning: %j", async (version, problem) => {
    await using table = await createTable();
    const items = named("2026-01-01T00:00:00.000Z", "2026-01-02T00:00:00.000Z");
    await table.add(...items);
    const { stdout, stderr } = await run("check", { source: table.source, version });
    expect({ answer: JSON.parse(stdout), stderr }).toEqual({
      answer: items.slice(1),
      stderr: [
        `warning: version.created ${problem} (example: 2026-11-23T15:04:05.123Z); returning the newest version`,
      ],
    });
  });

  test.each(["2026-01-02", "2026-01-02T00:00Z", "2026-01-02 01:30:00.0+01:30", "2026-01-01T22:00:00-02:00"])(
    "a time as people write it is a cursor: %s",
    async (created) => {
      await using table = await createTable();
      const items = named("2026-01-01T23:59:59.999Z", "01/02/2026 00:00:00", "2026-01-02T00:00:00.000Z");
      await table.add(...items);
      const { stdout, stderr } = await run("check", { source: table.source, version: { created } });
      expect({ answer: JSON.parse(stdout), stderr }).toEqual({ answer: items.slice(1), stderr: [] });
    },
  );

  test.each([undefined, { created: "2026-01-01T00:00:00.000Z" }, { ref: "x" }])(
    "initial_value is not offered beside items that are skipped: %j",
    async (version) => {
      await using table = await createTable();
      await table.add({ created: "2026-01-02T00:00:00.000Z", value: { value: { BOOL: true } } });
      const source = { ...table.source, initial_value: "0.0.0" };
      expect(await answerOf<unknown>("check", { source, version })).toEqual([]);
    },
  );

  test("a request says which version of the resource asks", async () => {
    await using table = await createTable();
    await using proxy = startProxy(table.source.endpoint, () => undefined);
    await answerOf("check", { source: { ...table.source, endpoint: proxy.endpoint } });
    const agents = proxy.asked.map(({ headers }) => headers["user-agent"]);
    expect(new Set(agents)).toEqual(new Set([`dynamo-keyval-resource/${manifest.version}`]));
  });

  test("another key's items are none of this one's", async () => {
    await using table = await createTable();
    await table.add({ created: "2026-01-01T00:00:00.000Z", value: "1" });
    expect(await answerOf<unknown>("check", { source: { ...table.source, key: "my-ap" } })).toEqual([]);
  });

  test("a check with a cursor asks two strongly consistent queries, neither of the whole partition", async () => {
    await using table = await createTable();
    // Ahead of every clock, and of no year's end.
    const created = "2998-06-15T00:00:00.000Z";
    await table.add({ created, value: "1" });
    await using proxy = startProxy(table.source.endpoint, () => undefined);
    await answerOf("check", { source: { ...table.source, endpoint: proxy.endpoint }, version: { created } });
    expect(proxy.asked).toHaveLength(2);
    for (const { operation, body } of proxy.asked) {
      expect({ operation, consistent: body.ConsistentRead }).toEqual({
        operation: "Query",
        consistent: true,
      });
      expect(String(body.KeyConditionExpression)).toMatch(/#created (>=|BETWEEN)/);
    }
    // The one starts at the cursor, the other at its day: what is older is not read.
    const from = proxy.asked.map(
      ({ body }) => (body.ExpressionAttributeValues as Record<string, unknown>)[":from"],
    );
    expect(from).toEqual([{ S: created }, { S: oldStyleCreated(Date.parse(created)) }]);
  });
});
