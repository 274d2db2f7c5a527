import { compareCreated, FIRST_ISO, oldStyleRanges, type Range, type Timed } from "./created.ts";
import { queryItems, type Reading, timed } from "./dynamodb.ts";
import { type Item, now, type Table } from "./transport.ts";

/** The first items of a range, `limit` at most (else all) and in the order of reading, of those that `read` makes something of. */
export async function takeItems<T extends Timed>(
  table: Table,
  range: Range,
  reading: Reading,
  read: (item: Item) => T | undefined,
): Promise<T[]> {
  const { limit = Infinity } = reading;
  const taken: T[] = [];
  for await (const page of queryItems(table, range, reading)) {
    taken.push(...page.map(read).filter((found) => found !== undefined));
    if (taken.length >= limit) break;
  }
  return taken.slice(0, limit);
}

/** The newest items in today's spelling, `count` at most and oldest first, of those that `read` makes something of. */
export async function newestIsoItems<T extends Timed>(
  table: Table,
  count: number,
  read: (item: Item) => T | undefined,
  reading: Reading = {},
): Promise<T[]> {
  const newestFirst = { ...reading, newestFirst: true, limit: count };
  return (await takeItems(table, { from: FIRST_ISO }, newestFirst, read)).toReversed();
}

/**
 * The newest items in the C# resource's spelling, `count` at most and oldest first, of those that are not older
 * than `since` (ms since 1970; undefined: all) and that `read` makes something of.
 */
export async function newestOldStyleItems<T extends Timed>(
  table: Table,
  { count, since }: { count: number; since: number | undefined },
  read: (item: Item) => T | undefined,
  reading: Reading = {},
): Promise<T[]> {
  let newest: T[] = [];
  const readRange = async (range: Range) => {
    for await (const page of queryItems(table, range, reading)) {
      const recent = page.filter((item) => !isBefore(item, since));
      newest.push(...recent.map(read).filter((found) => found !== undefined));
      newest = newest.toSorted(compareCreated).slice(-count);
    }
  };
  await Promise.all(oldStyleRanges(since, now(table)).map(readRange));
  return newest;
}

/** The newest items in either spelling, `count` at most and oldest first, of those that `read` makes something of. */
export async function newestItems<T extends Timed>(
  table: Table,
  count: number,
  read: (item: Item) => T | undefined,
): Promise<T[]> {
  const iso = await newestIsoItems(table, count, read);
  const since = iso.length < count ? undefined : iso[0]?.time;
  const oldStyle = await newestOldStyleItems(table, { count, since }, read);
  return [...iso, ...oldStyle].toSorted(compareCreated).slice(-count);
}

function isBefore(item: Item, time: number | undefined): boolean {
  const own = timed(item)?.time;
  return own !== undefined && time !== undefined && own < time;
}
