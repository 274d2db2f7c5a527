import { compareCreated, FIRST_ISO, oldStyleRanges, type Range, type Timed } from "./created.ts";
import { queryItems, type Reading, withTime } from "./dynamodb.ts";
import { type Item, now, type Table } from "./transport.ts";
import {
  isIso,
  merge,
  type Span,
  takeIso,
  type Taken,
  takeOldStyle,
  type TimedVersion,
  type Taking,
  type Warn,
} from "./versions.ts";

/** Which versions are wanted. */
export interface Wanted {
  /** Where a reader has got to: this version and the newer ones are wanted. */
  cursor?: Timed | undefined;
  /** How many of the newest versions are wanted at most where there is no cursor. */
  history: number;
  /** How far ahead of now (ms) an old-style item may be; a day, unless given. */
  ahead?: number;
  /** The most bytes of their JSON; 8 MiB, unless given. */
  bytes?: number;
}

const DAY_MS = 24 * 60 * 60 * 1000;
const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;

/** The brackets and the newline of the array take two bytes more than its last version's missing comma. */
const MOST_BYTES = 8 * 1024 * 1024 - 2;

/**
 * The versions that are wanted, oldest first; undefined where the key has no item at all. With a cursor that is
 * gone and nothing newer, the newest version. An item that cannot be a version is skipped with a warning.
 */
export async function versionsFor(
  table: Table,
  wanted: Wanted,
  warn: Warn,
): Promise<TimedVersion[] | undefined> {
  const { cursor, history } = wanted;
  for (;;) {
    const found = cursor && (await versionsFrom(table, cursor, wanted, warn));
    if (found && found.length > 0) return found;
    const newest = await newestVersions(table, { ...wanted, history: cursor ? 1 : history }, warn);
    // What is newer than the cursor was put after its range was read, and others may have been put with it.
    if (!cursor || !newest?.[0] || compareCreated(newest[0], cursor) < 0) return newest;
  }
}

async function versionsFrom(
  table: Table,
  cursor: Timed,
  { ahead = DAY_MS, bytes = MOST_BYTES }: Wanted,
  warn: Warn,
): Promise<TimedVersion[]> {
  const taking = { newestFirst: false, count: Infinity, bytes };
  const span = { since: cursor.time, isWanted: (item: Timed) => compareCreated(item, cursor) >= 0 };
  const assumed = Math.max(now(table), cursor.time) + ahead;
  const [iso, oldStyle] = await Promise.all([
    takeIso(table, span, taking, warn),
    takeOldStyle(table, { ...span, until: assumed }, taking, warn),
  ]);
  const last = Math.max(now(table) + ahead, iso.latest);
  if (last > assumed + MINUTE_MS) {
    // An answer has shown that the worker's clock is behind, or that the history is ahead.
    const missing = {
      since: assumed - (assumed % SECOND_MS) + SECOND_MS,
      until: last,
      isWanted: span.isWanted,
    };
    await takeOldStyle(table, missing, taking, warn, oldStyle);
  }
  const isDue = (item: Timed) => item.time <= last || item.created === cursor.created;
  const waiting = oldStyle.versions.filter((version) => !isDue(version));
  warnOfWaiting(waiting, ahead, warn);
  oldStyle.versions = oldStyle.versions.filter(isDue);
  const { versions, isCut: isFull } = merge([iso, oldStyle], taking);
  const newest = versions.at(-1);
  if (newest === undefined || newest.created === cursor.created) return versions;
  const { isCut, ...upTo } = await takeUpTo(table, newest, { iso, oldStyle, span, taking }, warn);
  if (isFull || isCut) {
    warn(
      `only the next ${upTo.versions.length} versions are returned, because a check returns at most 8 MiB; the next check continues from there`,
    );
  }
  return upTo.versions;
}

/** The newest versions in either spelling; undefined where the key has no item at all. */
async function newestVersions(
  table: Table,
  { history: count, ahead = DAY_MS, bytes = MOST_BYTES }: Wanted,
  warn: Warn,
): Promise<TimedVersion[] | undefined> {
  const taking = { newestFirst: true, count, bytes };
  const iso = await takeIso(table, { isWanted: () => true }, taking, warn);
  const since = iso.end?.time;
  const last = Math.max(now(table) + ahead, iso.latest);
  const waiting: Timed[] = [];
  const isWanted = ({ created, time }: Timed) => {
    if (time > last) waiting.push({ created, time });
    return time <= last && time >= (since ?? time);
  };
  const span = { since, until: since === undefined ? undefined : last, isWanted };
  const oldStyle = await takeOldStyle(table, span, taking, warn);
  warnOfWaiting(waiting, ahead, warn);
  const [newest] = merge([iso, oldStyle], taking).versions;
  if (newest === undefined) return iso.items + oldStyle.items > 0 ? [] : undefined;
  // The old-style items were read after the ISO ones, so that only an old-style one may be newer than what was missed.
  const { versions, isCut } = isIso(newest)
    ? merge([iso, oldStyle], taking)
    : await takeUpTo(table, newest, { iso, oldStyle, span, taking }, warn);
  if (isCut && versions.length < count) {
    warn(`only the newest ${versions.length} versions are returned, because a check returns at most 8 MiB`);
  }
  return versions.toReversed();
}

/**
 * What both spellings have up to the newest item that may be given. The two were read at two moments: what has
 * the other spelling is read once more, since all that was put before the newest item is there by now.
 */
async function takeUpTo(
  table: Table,
  newest: Timed,
  { iso, oldStyle, span, taking }: { iso: Taken; oldStyle: Taken; span: Span; taking: Taking },
  warn: Warn,
) {
  const isWanted = (item: Timed) => span.isWanted(item) && compareCreated(item, newest) <= 0;
  const upTo = { since: span.since, until: newest.time, isWanted };
  const isOldStyleStale = isIso(newest) || oldStyle.pages > 1;
  const both = await Promise.all([
    isIso(newest) ? iso : takeIso(table, upTo, taking, warn),
    isOldStyleStale ? takeOldStyle(table, upTo, taking, warn) : oldStyle,
  ]);
  const { versions, isCut } = merge(both, taking, newest);
  return { versions, isCut: isCut || iso.isCut || oldStyle.isCut };
}

function warnOfWaiting(waiting: Timed[], ahead: number, warn: Warn): void {
  const [first] = waiting.toSorted(compareCreated);
  if (!first) return;
  const items = waiting.length === 1 ? "1 item is" : `${waiting.length} items are`;
  warn(
    `${items} skipped for now: created ${JSON.stringify(first.created)} is more than ${ahead / HOUR_MS} hours in the future; check the clock of the worker that put ${waiting.length === 1 ? "it" : "them"}`,
  );
}

/** The first items of a range, `limit` at most (else all) and in the order of reading, of those that `read` accepts. */
export async function takeItems<T>(
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

/** The newest items in today's spelling, `count` at most and oldest first, of those that `read` accepts. */
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
 * The newest items in the C# resource's spelling, `count` at most and oldest first, of those from `since`
 * to `until` (ms since 1970; undefined: without that limit) that `read` accepts.
 */
export async function newestOldStyleItems<T extends Timed>(
  table: Table,
  { count, since, until }: { count: number; since: number | undefined; until?: number },
  read: (item: Item) => T | undefined,
  reading: Reading = {},
): Promise<T[]> {
  let newest: T[] = [];
  const readRange = async (range: Range) => {
    for await (const page of queryItems(table, range, reading)) {
      const recent = page.filter((item) => isWithin(item, since, until));
      newest.push(...recent.map(read).filter((found) => found !== undefined));
      newest = newest.toSorted(compareCreated).slice(-count);
    }
  };
  await Promise.all(oldStyleRanges(since, until).map(readRange));
  return newest;
}

function isWithin(item: Item, since = -Infinity, until = Infinity): boolean {
  const time = withTime(item)?.time;
  return time === undefined || (time >= since && time <= until);
}
