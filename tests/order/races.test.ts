import { describe, expect, test } from "bun:test";
import { Glob } from "bun";
import { hasDocker, startDynamodbLocal } from "../support/containers.ts";
import { type Engine, startDynalite } from "../support/engine.ts";
import { type Answer, dist, type Version } from "../support/step.ts";
import { createTable } from "../support/table.ts";

const WRITERS = 32;
const PUTS = 20;
const READERS = 2;
const MOST_SKEW_S = 300;
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

describe.skipIf(faketime === undefined)(
  "32 processes put 20 values each, clocks up to five minutes off,",
  () => {
    test("on dynalite", async () => race(await startDynalite()), LIMIT_MS);

    test(
      "on dynalite, fewer of them, with keep",
      async () => race(await startDynalite(), { writers: 8, puts: 10, keep: 3 }),
      LIMIT_MS,
    );

    test.skipIf(!hasDocker)("on DynamoDB Local", async () => race(await startDynamodbLocal()), LIMIT_MS);
  },
);
