import { expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { oldStyleCreated } from "../../shared/created.ts";
import { awsError, startProxy } from "../support/proxy.ts";
import { type Answer, unreachable, type Version } from "../support/step.ts";
import { describeSteps, describeSubjects } from "../support/subjects.ts";

type Bump = { bump?: string; pre?: string };
const ERROR = null;

/** What follows a version, as README says it. */
const TABLE: [string, ...(string | null)[]][] = [
  ["1.2.3", "2.0.0", "1.3.0", "1.2.4", ERROR, ERROR, "1.3.0-rc.1"],
  ["1.3.0-rc.1", "2.0.0", "1.4.0", "1.3.1", "1.3.0", "1.3.0-rc.2", "1.4.0-rc.1"],
  ["1.3.0-alpha.4", "2.0.0", "1.4.0", "1.3.1", "1.3.0", "1.3.0-rc.1", "1.4.0-rc.1"],
  ["1.3.0-rc", "2.0.0", "1.4.0", "1.3.1", "1.3.0", "1.3.0-rc.1", "1.4.0-rc.1"],
];
const COLUMNS: Bump[] = [
  { bump: "major" },
  { bump: "minor" },
  { bump: "patch" },
  { bump: "final" },
  { pre: "rc" },
  { bump: "minor", pre: "rc" },
];

/** What else follows a version; an error's line where nothing does. */
const CASES: [string, Bump, string | RegExp][] = [
  ["1.3.0-rc.2", { bump: "minor", pre: "alpha" }, "1.4.0-alpha.1"],
  ["1.3.0-rc.2", { pre: "alpha" }, /^params.pre: "1.3.0-alpha.1" is not greater than "1.3.0-rc.2"/],
  ["1.3.0-rc.1.5", { pre: "rc" }, "1.3.0-rc.2"],
  ["1.3.0-rc.x", { pre: "rc" }, /^params.pre: "1.3.0-rc.1" is not greater than "1.3.0-rc.x"/],
  ["1.2.3", { pre: "rc" }, /use bump: major, minor or patch with pre$/],
  ["v1.2.3", { bump: "minor" }, "v1.3.0"],
  ["v1.3.0-rc.1", { pre: "rc" }, "v1.3.0-rc.2"],
  ["1.2.3+build.5", { bump: "patch" }, "1.2.4"],
  ["1.2.3\n", { bump: "patch" }, "1.2.4"],
  ["1.2.3\n\n", { bump: "patch" }, /^params.bump: "1.2.3\\n" is not a semantic version/],
  [" 1.2.3", { bump: "patch" }, /^params.bump: " 1.2.3" is not a semantic version/],
  ["=1.2.3", { bump: "patch" }, /is not a semantic version/],
  [
    "package-1.2",
    { bump: "patch" },
    /^params.bump: "package-1.2" is not a semantic version \(example: 1.2.3/,
  ],
  ["vv1.2.3", { bump: "patch" }, /is not a semantic version/],
  ["1.2", { bump: "patch" }, /is not a semantic version/],
  ["", { bump: "patch" }, /^params.bump: "" is not a semantic version/],
  [
    "1.9007199254740991.0",
    { bump: "minor" },
    /^params.bump: "1.9007199254740992.0" would follow "1.9007199254740991.0" but is not a valid version/,
  ],
  ["1.3.0-rc.9007199254740991", { pre: "rc" }, /^params.pre: .*"1.3.0-rc.9007199254740991"/],
  ["0", { bump: "number" }, "1"],
  ["-1", { bump: "number" }, "0"],
  ["41\n", { bump: "number" }, "42"],
  ["9007199254740993", { bump: "number" }, "9007199254740994"],
  ["9".repeat(99), { bump: "number" }, `1${"0".repeat(99)}`],
  ["9".repeat(100), { bump: "number" }, /^params.bump: .* cannot be bumped/],
  [`-1${"0".repeat(99)}`, { bump: "number" }, `-${"9".repeat(99)}`],
  ["007", { bump: "number" }, /^params.bump: "007" cannot be bumped; expected a whole number/],
  ["-0", { bump: "number" }, /cannot be bumped/],
  ["1.0", { bump: "number" }, /cannot be bumped/],
];

describeSteps("what follows a version", ({ run }) => {
  const follow = async (value: string, params: Bump) => {
    const folder = await mkdtemp(`${tmpdir()}/bump-`);
    try {
      const version = { value, created: "2026-01-01T00:00:00.000Z" };
      const request = { source: unreachable, version, params };
      const outcome = await run("in", request, { words: [folder] });
      if (outcome.status !== 0) return outcome.stderr.join("\n");
      expect(JSON.parse(outcome.stdout)).toMatchObject({ version });
      expect(await Bun.file(`${folder}/version.json`).json()).toEqual(version);
      return (await Bun.file(`${folder}/version.txt`).text()).slice(0, -1);
    } finally {
      await rm(folder, { recursive: true });
    }
  };

  test.each(TABLE)("%s in a get", async (newest, ...expected) => {
    const found = await Promise.all(COLUMNS.map((how) => follow(newest, how)));
    for (const [index, next] of expected.entries()) {
      // In a get a final version is its own final.
      if (COLUMNS[index]?.bump === "final" && next === ERROR) expect(found[index]).toBe(newest);
      else if (next === ERROR) expect(found[index]).toStartWith("params.");
      else expect(found[index]).toBe(next);
    }
  });

  test.each(CASES)("%j with %j", async (newest, how, expected) => {
    const found = await follow(newest, how);
    if (typeof expected === "string") expect(found).toBe(expected);
    else expect(found).toMatch(expected);
  });
});

describeSubjects("a put that depends on the newest value", ({ createTable, run, answerOf }) => {
  const words = ["/tmp"];

  test.each(TABLE)("bumps %s", async (newest, ...expected) => {
    for (const [index, next] of expected.entries()) {
      await using table = await createTable();
      await table.add({ created: "2026-01-01T00:00:00.000Z", value: newest });
      const params = COLUMNS[index];
      const { status, stdout, stderr } = await run("out", { source: table.source, params }, { words });
      expect({ params, status }).toEqual({ params, status: next === ERROR ? 1 : 0 });
      expect((await table.items()).length).toBe(next === ERROR ? 1 : 2);
      if (next === ERROR) {
        expect(stderr).toEqual([expect.stringContaining(JSON.stringify(newest))]);
      } else {
        const { version, metadata } = JSON.parse(stdout) as Answer;
        expect(version.value).toBe(next);
        expect(metadata).toContainEqual({ name: "previous", value: newest });
        expect((await table.items()).at(-1)).toMatchObject(version);
      }
    }
  });

  test.each<[string, Bump, object, string]>([
    ["an empty key", { bump: "minor" }, {}, "0.1.0"],
    ["an empty key, a number", { bump: "number" }, {}, "1"],
    ["an empty key with an initial value", { bump: "minor" }, { initial_value: "v2.0.0" }, "v2.1.0"],
    ["an empty key with an initial value, a number", { bump: "number" }, { initial_value: 6 }, "7"],
  ])("bumps %s", async (_, params, source, expected) => {
    await using table = await createTable();
    const request = { source: { ...table.source, ...source }, params };
    expect((await answerOf<Answer>("out", request, { words })).version.value).toBe(expected);
  });

  test.each<[string, Version[], object, object, number, RegExp | undefined]>([
    [
      "met",
      [{ created: "2026-01-01T00:00:00.000Z", value: "1" }],
      {},
      { value: "2", expect: "1" },
      0,
      undefined,
    ],
    [
      "met by a number",
      [{ created: "2026-01-01T00:00:00.000Z", value: "1" }],
      {},
      { value: "2", expect: 1 },
      0,
      undefined,
    ],
    [
      "met, with a bump",
      [{ created: "2026-01-01T00:00:00.000Z", value: "1.0.0" }],
      {},
      { bump: "minor", expect: "1.0.0" },
      0,
      undefined,
    ],
    ["met by the initial value", [], { initial_value: "0" }, { value: "2", expect: "0" }, 0, undefined],
    [
      "not met",
      [{ created: "2026-01-01T00:00:00.000Z", value: "version-3" }],
      {},
      { value: "version-3", expect: "version-1" },
      4,
      /^params.expect: expected "version-1", but the newest version is "version-3" \(created 2026-01-01T00:00:00.000Z\); nothing is stored$/,
    ],
    [
      "not met by an old value",
      [
        { created: "2025-01-01T00:00:00.000Z", value: "1" },
        { created: "2026-01-01T00:00:00.000Z", value: "2" },
      ],
      {},
      { value: "3", expect: "1" },
      4,
      /the newest version is "2"/,
    ],
    ["not met on an empty key", [], {}, { value: "2", expect: "0" }, 4, /but the key has no version/],
    [
      "not met by another initial value",
      [],
      { initial_value: "0" },
      { value: "2", expect: "1" },
      4,
      /source.initial_value is "0"/,
    ],
    ["null", [], {}, { value: "2", expect: null }, 1, /^params.expect must be .*, got null$/],
    [
      "met, but unchanged",
      [{ created: "2026-01-01T00:00:00.000Z", value: "1" }],
      {},
      { value: "1", expect: "0", skip_unchanged: true },
      0,
      /^nothing is stored: the newest version \(created 2026-01-01T00:00:00.000Z\) already has this value$/,
    ],
  ])("expect that is %s", async (_, items, source, params, status, line) => {
    await using table = await createTable();
    await table.add(...items);
    const outcome = await run("out", { source: { ...table.source, ...source }, params }, { words });
    expect({ status: outcome.status, isEmpty: outcome.stdout === "" }).toEqual({
      status,
      isEmpty: status !== 0,
    });
    expect(outcome.stderr).toEqual(line ? [expect.stringMatching(line)] : []);
    const isStored = status === 0 && line === undefined;
    expect((await table.items()).length).toBe(items.length + Number(isStored));
    expect((await table.head()) !== undefined).toBe(isStored);
  });

  test.each<[string, object, RegExp]>([
    [
      "bump with value",
      { bump: "minor", value: "1" },
      /^params: only one of file, value, directory and bump/,
    ],
    ["pre with file", { pre: "rc", file: "a" }, /only one of/],
    [
      "bump with skip_unchanged",
      { bump: "minor", skip_unchanged: true },
      /^params.skip_unchanged cannot be used with bump or pre$/,
    ],
    ["pre with final", { bump: "final", pre: "rc" }, /^params.pre cannot be used with bump: final/],
    ["pre with number", { bump: "number", pre: "rc" }, /^params.pre cannot be used with bump: final/],
    ["bump: null", { bump: null }, /^params.bump must be .*, got null$/],
    ["pre: null", { bump: "minor", pre: null }, /^params.pre must be .*, got null$/],
    ["pre of digits", { bump: "minor", pre: "1" }, /^params.pre: "1" is not a valid pre-release name/],
    ["pre of two identifiers", { bump: "minor", pre: "rc.1" }, /is not a valid pre-release name/],
    [
      "another bump",
      { bump: "huge" },
      /^params.bump: "huge" is not a valid bump \(major, minor, patch, final or number\)$/,
    ],
    ["get_latest with value", { get_latest: true, value: "1" }, /^params.get_latest cannot be used with/],
  ])("refuses %s", async (_, params, line) => {
    await using table = await createTable();
    expect(await run("out", { source: table.source, params }, { words })).toEqual({
      status: 1,
      stdout: "",
      stderr: [expect.stringMatching(line)],
    });
  });

  test.each<[string, object]>([
    ["bump", { bump: "minor" }],
    ["expect", { value: "2", expect: "1.0.0" }],
  ])("%s where UpdateItem is denied stores nothing", async (_, params) => {
    await using table = await createTable();
    await table.add({ created: "2026-01-01T00:00:00.000Z", value: "1.0.0" });
    await using proxy = startProxy(table.source.endpoint, ({ operation }) =>
      operation === "UpdateItem" ? awsError("AccessDeniedException", "no") : undefined,
    );
    const request = { source: { ...table.source, endpoint: proxy.endpoint }, params };
    expect(await run("out", request, { words })).toEqual({
      status: 1,
      stdout: "",
      stderr: [expect.stringMatching(/dynamodb:UpdateItem.*nothing is stored$/)],
    });
    expect(await table.items()).toHaveLength(1);
  });

  test("bump of a key whose items are no versions is an error", async () => {
    await using table = await createTable();
    await table.add({ created: "2026-01-01T00:00:00.000Z", value: { value: { BOOL: true } } });
    const source = { ...table.source, initial_value: "1.0.0" };
    for (const [params, field] of [
      [{ bump: "minor" }, "bump"],
      [{ pre: "rc" }, "pre"],
      [{ get_latest: true }, "get_latest"],
    ] as const) {
      const { status, stderr } = await run("out", { source, params }, { words });
      expect({ status, last: stderr.at(-1) }).toEqual({
        status: 1,
        last: expect.stringMatching(new RegExp(`^params\\.${field}: .*none of them is a version`)),
      });
    }
  });

  test("bump skips a newest item that is no version", async () => {
    await using table = await createTable();
    await table.add(
      { created: "2026-01-01T00:00:00.000Z", value: "1.0.0" },
      { created: "2026-01-02T00:00:00.000Z", value: { value: { BOOL: true } } },
    );
    const request = { source: table.source, params: { bump: "minor" } };
    expect((await answerOf<Answer>("out", request, { words })).version.value).toBe("1.1.0");
  });

  test.each<[string, object, number]>([
    ["bump", { bump: "patch" }, 0],
    ["expect", { value: "x", expect: "1.0.0" }, 4],
  ])(
    "%s beside a newest item that is no version minds a put that comes meanwhile",
    async (_, params, status) => {
      await using table = await createTable();
      await table.add(
        { created: "2026-01-01T00:00:00.000Z", value: "1.0.0" },
        { created: "2026-01-02T00:00:00.000Z", value: { value: { BOOL: true } } },
      );
      let isPut = false;
      await using proxy = startProxy(table.source.endpoint, async ({ operation, body }) => {
        if (operation !== "Query" || body.FilterExpression === undefined || isPut) return undefined;
        isPut = true;
        await answerOf("out", { source: table.source, params: { bump: "patch" } }, { words });
        return undefined;
      });
      const source = { ...table.source, endpoint: proxy.endpoint };
      expect((await run("out", { source, params }, { words })).status).toBe(status);
      const values = (await table.items()).map(({ value }) => value);
      expect(values.slice(2)).toEqual(status === 0 ? ["1.0.1", "1.0.2"] : ["1.0.1"]);
    },
  );

  const dependent: [string, object, string, number][] = [
    ["bump", { bump: "patch" }, "1.2.4", 1],
    ["expect", { value: "x", expect: "1.2.3" }, "x", 1],
    ["skip_unchanged", { value: "1.2.3", skip_unchanged: true }, "1.2.3", 0],
  ];

  test.each(dependent)(
    "%s goes by what an engine gives in many small pages",
    async (_, params, value, written) => {
      await using table = await createTable();
      await table.add({ created: "01/01/2026 00:00:00", value: "1.2.3" });
      await table.claim("2025-12-01T00:00:00.000Z");
      await using proxy = startProxy(table.source.endpoint, async ({ operation, body }) => {
        if (operation !== "Query") return undefined;
        const { Items = [], Count, LastEvaluatedKey } = await table.query({ ...body, Limit: 1 });
        return Response.json(
          { Items, Count, ...(LastEvaluatedKey && { LastEvaluatedKey }) },
          { headers: { "content-type": "application/x-amz-json-1.0" } },
        );
      });
      const source = { ...table.source, endpoint: proxy.endpoint };
      const { version } = await answerOf<Answer>("out", { source, params }, { words });
      expect(version.value).toBe(value);
      expect(await table.items()).toHaveLength(1 + written);
    },
  );

  test.each(dependent)(
    "%s goes by the version that check would give last, beside one of the future that is none",
    async (_, params, value, written) => {
      await using table = await createTable();
      const ahead = oldStyleCreated(Date.now() + 500 * 24 * 60 * 60 * 1000);
      await table.add(
        { created: "2026-01-01T00:00:00.000Z", value: "1.0.0" },
        { created: "9000-01-01T00:00:00.000Z", value: { value: { BOOL: true } } },
        { created: ahead, value: "1.2.3" },
      );
      const { version } = await answerOf<Answer>("out", { source: table.source, params }, { words });
      expect(version.value).toBe(value);
      expect(await table.items()).toHaveLength(3 + written);
    },
  );

  test("many items that are no versions cost a bump few requests", async () => {
    await using table = await createTable();
    await table.add(
      { created: "2026-01-01T00:00:00.000Z", value: "1.0.0" },
      ...Array.from({ length: 300 }, (_, index) => ({
        created: new Date(Date.UTC(2026, 1, 1) + index).toISOString(),
        value: { value: { BOOL: true } },
      })),
    );
    await using proxy = startProxy(table.source.endpoint, () => undefined);
    const request = { source: { ...table.source, endpoint: proxy.endpoint }, params: { bump: "patch" } };
    expect((await answerOf<Answer>("out", request, { words })).version.value).toBe("1.0.1");
    expect(proxy.asked.length).toBeLessThan(20);
  });

  test("a lone bump takes four requests", async () => {
    await using table = await createTable();
    await answerOf("out", { source: table.source, params: { bump: "number" } }, { words });
    await using proxy = startProxy(table.source.endpoint, () => undefined);
    const request = { source: { ...table.source, endpoint: proxy.endpoint }, params: { bump: "number" } };
    expect((await answerOf<Answer>("out", request, { words })).version.value).toBe("2");
    expect(proxy.asked.map(({ operation }) => operation)).toEqual([
      "Query",
      "Query",
      "UpdateItem",
      "PutItem",
    ]);
  });

  test("a lost answer bumps once", async () => {
    await using table = await createTable();
    let lost = 0;
    await using proxy = startProxy(table.source.endpoint, async ({ operation, body }) => {
      if (operation !== "PutItem" || lost++ > 0) return undefined;
      await table.send(operation, body);
      return awsError("InternalServerError", "lost", 500);
    });
    const request = { source: { ...table.source, endpoint: proxy.endpoint }, params: { bump: "number" } };
    expect((await answerOf<Answer>("out", request, { words })).version.value).toBe("1");
    expect(await table.items()).toHaveLength(1);
  });

  test("24 bumps at once are 24 versions in a row", async () => {
    await using table = await createTable();
    const request = { source: table.source, params: { bump: "number" } };
    await Promise.all(Array.from({ length: 24 }, () => answerOf("out", request, { words })));
    expect((await table.items()).map(({ value }) => value)).toEqual(
      Array.from({ length: 24 }, (_, index) => `${index + 1}`),
    );
  });

  test("an open claim is filled with what follows the newest item, not a stale one", async () => {
    await using table = await createTable();
    const put = (params: object, endpoint = table.source.endpoint) =>
      answerOf<Answer>("out", { source: { ...table.source, endpoint }, params }, { words });
    await put({ value: "1" });
    // The head's Query waits until another put is whole and a third has claimed a place.
    let queries = 0;
    await using proxy = startProxy(table.source.endpoint, async ({ body }) => {
      const { ":to": to } = (body.ExpressionAttributeValues ?? {}) as Record<string, { S: string }>;
      if (to === undefined || queries++ > 0) return undefined;
      await put({ bump: "number" });
      await table.claim(new Date(Date.now() + 1000).toISOString());
      return undefined;
    });
    expect((await put({ bump: "number" }, proxy.endpoint)).version.value).toBe("3");
    expect((await table.items()).map(({ value }) => value)).toEqual(["1", "2", "3"]);
  });

  test.each<[string, Version[], object, number, string | undefined]>([
    [
      "the newest version",
      [
        { created: "2025-01-01T00:00:00.000Z", value: "1" },
        { created: "2026-01-01T00:00:00.000Z", value: "2" },
      ],
      {},
      0,
      "2",
    ],
    ["the initial value", [], { initial_value: "0" }, 0, "0"],
    ["nothing", [], {}, 1, undefined],
  ])("get_latest answers with %s and stores nothing", async (_, items, source, status, value) => {
    await using table = await createTable();
    await table.add(...items);
    const request = { source: { ...table.source, ...source }, params: { get_latest: true } };
    const outcome = await run("out", request, { words });
    expect({ status: outcome.status, lines: outcome.stderr.length }).toEqual({ status, lines: status });
    if (value !== undefined) expect(JSON.parse(outcome.stdout).version.value).toBe(value);
    expect(await table.items()).toHaveLength(items.length);
    expect(await table.head()).toBeUndefined();
  });
});
