import { describe, expect, test } from "bun:test";
import { Glob } from "bun";
import { hasDocker, startDynamodbLocal } from "../support/containers.ts";
import { type Engine, startDynalite } from "../support/engine.ts";
import { startProxy } from "../support/proxy.ts";
import { type Answer, dist, type Version } from "../support/step.ts";
import { createTable } from "../support/table.ts";

const WRITERS = 32;
const PUTS = 20;
const READERS = 2;
/** Beyond a minute a put goes by the engine's time, and leaning on clocks would not be seen. */
const MOST_SKEW_S = 50;
const LIMIT_MS = 900_000;
const HOUR_MS = 60 * 60 * 1000;

/** Debian's libfaketime, which gives each process a clock of its own. */
const [faketime] = Array.from(new Glob("/usr/lib/*/faketime/libfaketime.so.1").scanSync("/"));

/** A clock that is off by this many seconds. */
const skewed = (seconds: number): Record<string, string> => ({
  LD_PRELOAD: faketime ?? "",
  FAKETIME: `${seconds < 0 ? "" : "+"}${seconds}s`,
  DONT_FAKE_MONOTONIC: "1",
});

async function race(engine: Engine, { writers = WRITERS, puts = PUTS, keep = 0 } = {}): Promise<void> {
  await using table = await createTable(engine);
  // Of hours ago, for keep to delete; without keep they just stay.
  const before =
    keep === 0
      ? []
      : Array.from({ length: 150 }, (_, index) => {
          const created = new Date(Date.now() - (200 - index) * HOUR_MS).toISOString();
          return { value: `before ${index}`, created };
        });
  await table.add(...before);
  const source = { ...table.source, ...(keep > 0 && { keep }) };
  const { answerOf } = dist;
  const put: Version[] = [];
  let isOver = false;

  const write = async (writer: number) => {
    const seconds = Math.round((writer / (writers - 1)) * 2 * MOST_SKEW_S) - MOST_SKEW_S;
    for (let round = 0; round < puts; round++) {
      const earlier = put[Math.floor(put.length / 2)];
      const request = { source, params: { value: `${writer}-${round}` } };
      const { version } = await answerOf<Answer>("out", request, { words: ["/tmp"], env: skewed(seconds) });
      put.push(version);
      if (round % 5 !== 0) continue;
      const shown = await answerOf<Version[]>("check", { source, version: earlier ?? null });
      expect(shown).toContainEqual(version);
    }
  };

  /** A pipeline that only reads: each check goes on from the version that the last one gave last. */
  const read = async (): Promise<Version[]> => {
    const seen: Version[] = [];
    for (let last = false; ; last = isOver) {
      const cursor = seen.at(-1);
      const versions = await answerOf<Version[]>("check", { source, version: cursor ?? null });
      if (cursor !== undefined && versions[0]?.created === cursor.created) versions.shift();
      seen.push(...versions);
      if (last) return seen;
    }
  };

  const readers = Array.from({ length: READERS }, read);
  await Promise.all(Array.from({ length: writers }, (_, writer) => write(writer)));
  isOver = true;
  const items = (await table.items()).map(({ created, value }) => ({ value, created })) as Version[];
  const stored = items.filter(({ value }) => !value.startsWith("before"));
  // With keep, the newest of what was there stays: the next newer one is less than an hour old.
  expect(items.length - stored.length).toBe(keep === 0 ? 0 : 1);
  expect(stored).toHaveLength(writers * puts);
  expect(new Set(stored.map(({ created }) => created)).size).toBe(writers * puts);
  expect(put.toSorted((a, b) => (a.created < b.created ? -1 : 1))).toEqual(stored);
  for (const seen of await Promise.all(readers)) {
    expect(seen.filter(({ value }) => !value.startsWith("before"))).toEqual(stored);
  }
}

/** Bumps of one key by many processes: each gives the next number, and a reader sees all of them in order. */
async function raceBumps(
  engine: Engine,
  {
    writers,
    bumps,
    skew,
    hasDate = true,
  }: { writers: number; bumps: number; skew: number; hasDate?: boolean },
): Promise<void> {
  await using table = await createTable(engine);
  await using proxy = startProxy(engine.endpoint, async ({ headers, body }) => {
    if (hasDate) return undefined;
    const answer = await fetch(engine.endpoint, {
      method: "POST",
      headers: { ...headers, "accept-encoding": "identity" },
      body: JSON.stringify(body),
    });
    const kept = new Headers(answer.headers);
    kept.delete("date");
    return new Response(await answer.bytes(), { status: answer.status, headers: kept });
  });
  // Bun's own server gives a date of its own, which only a faulty proxy leaves out.
  const source = { ...table.source, ...(!hasDate && { endpoint: proxy.endpoint }) };
  const { answerOf } = dist;
  const bump = async (writer: number) => {
    const seconds = Math.round(((writer / (writers - 1)) * 2 - 1) * skew);
    for (let round = 0; round < bumps; round++) {
      await answerOf(
        "out",
        { source, params: { bump: "number" } },
        { words: ["/tmp"], env: skewed(seconds) },
      );
    }
  };
  let isOver = false;
  const follow = async () => {
    const seen: Version[] = [];
    for (let last = false; ; last = isOver) {
      const versions = await answerOf<Version[]>("check", {
        source: table.source,
        version: seen.at(-1) ?? null,
      });
      if (versions[0]?.created === seen.at(-1)?.created) versions.shift();
      seen.push(...versions);
      if (last) return seen.map(({ value }) => value);
    }
  };
  const follower = follow();
  await Promise.all(Array.from({ length: writers }, (_, writer) => bump(writer)));
  isOver = true;
  const inARow = Array.from({ length: writers * bumps }, (_, index) => `${index + 1}`);
  const items = (await table.items()).toSorted((a, b) => Number(a.value) - Number(b.value));
  expect(items.map(({ value }) => value)).toEqual(inARow);
  expect(await follower).toEqual(inARow);
}

describe.skipIf(faketime === undefined)("32 processes put 20 values each, clocks up to 50 s off,", () => {
  test("on dynalite", async () => race(await startDynalite()), LIMIT_MS);

  test(
    "on dynalite, fewer of them, with keep",
    async () => race(await startDynalite(), { writers: 8, puts: 10, keep: 3 }),
    LIMIT_MS,
  );

  test.skipIf(!hasDocker)(
    "on DynamoDB Local, fewer of them",
    async () => race(await startDynamodbLocal(), { writers: 12, puts: 8 }),
    LIMIT_MS,
  );
});

describe.skipIf(faketime === undefined)("20 processes bump a version 20 times each, their clocks off", () => {
  test(
    "by 50 s, on dynalite",
    async () => raceBumps(await startDynalite(), { writers: 20, bumps: 20, skew: 50 }),
    LIMIT_MS,
  );

  test.skipIf(!hasDocker)(
    "by 50 s, on DynamoDB Local",
    async () => raceBumps(await startDynamodbLocal(), { writers: 20, bumps: 20, skew: 50 }),
    LIMIT_MS,
  );

  test(
    "by a year, where no answer tells the time",
    async () =>
      raceBumps(await startDynalite(), { writers: 10, bumps: 8, skew: 365 * 24 * 3600, hasDate: false }),
    LIMIT_MS,
  );
});
