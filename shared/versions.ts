import { compareCreated, FIRST_ISO, isoCreated, oldStyleRanges, type Range, type Timed } from "./created.ts";
import { queryItems, textOf, withTime } from "./dynamodb.ts";
import type { Item, Table } from "./transport.ts";

/** A version with the time of its `created`. */
export interface TimedVersion extends Timed {
  value: string;
}

/** A page of so many characters is worth freeing what was read before it; the first one is, of four times as many. */
const HEAVY = 256 * 1024;
const ITEM_WEIGHT = 60;
/** A comma, and what a version takes in memory besides its text: of one character, 150,000 would fit and take 190 MiB. */
const OVERHEAD = 101;
/** So many items that are skipped are named. */
const MOST_NAMED = 20;

export type Warn = (message: string) => void;
type Weighed = TimedVersion & { bytes: number };

/** Which versions are taken, and how many: from the newest on, or else from the oldest. */
export interface Taking {
  newestFirst: boolean;
  count: number;
  bytes: number;
}

/** The items to read: of these times (ms since 1970, both included), those that are wanted. */
export interface Span {
  since?: number | undefined;
  until?: number | undefined;
  isWanted: (item: Timed) => boolean;
}

/** What was taken of one spelling, in the order of taking. */
export interface Taken {
  versions: Weighed[];
  /** The last version, where the count or the bytes leave out what comes after it. */
  end: Weighed | undefined;
  /** Whether it is the bytes that leave something out. */
  isCut: boolean;
  /** How many pages it took: with more than one, they are of several moments. */
  pages: number;
  /** How many items there were, whether versions or not. */
  items: number;
  /** How many of them were skipped with a warning. */
  skipped: number;
  /** The time of the newest item, whether a version or not. */
  latest: number;
}

/** The version that an item is, or the reason why it is none, to follow "skipped:". */
export function versionOf(item: Item): TimedVersion | string {
  const own = withTime(item);
  const value = textOf(item.value);
  if (own === undefined) return "its created is not a valid timestamp";
  if (item.value === undefined) return "it has no value";
  if (value === undefined) return "its value is neither a string nor a number";
  if (value.includes("\0")) return "its value contains a NUL character, which Concourse cannot store";
  return { created: own.created, time: own.time, value };
}

/** Takes ISO items in their order, and no more pages than it needs. */
export async function takeIso(table: Table, { since, until, isWanted }: Span, taking: Taking, warn: Warn) {
  const start = since === undefined ? FIRST_ISO : isoCreated(since);
  const range = {
    from: start > FIRST_ISO ? start : FIRST_ISO,
    ...(until !== undefined && { to: isoCreated(until) }),
  };
  const taken = nothing();
  if (range.to !== undefined && range.to < range.from) return taken;
  const { newestFirst, count } = taking;
  const reading = { newestFirst, ...(count < Infinity && { limit: count }) };
  for await (const page of queryItems(table, range, reading)) {
    takePage(taken, page, taking, isWanted, warn);
    if (taken.end) break;
  }
  warnOfOthers(taken, warn);
  return taken;
}

/** Takes old-style items: their keys are not in the order of time, so that all pages are read. */
export async function takeOldStyle(
  table: Table,
  { since, until, isWanted }: Span,
  taking: Taking,
  warn: Warn,
  taken = nothing(),
) {
  const readRange = async (range: Range) => {
    for await (const page of queryItems(table, range)) takePage(taken, page, taking, isWanted, warn);
  };
  await Promise.all(oldStyleRanges(since, until).map(readRange));
  warnOfOthers(taken, warn);
  return taken;
}

function warnOfOthers({ skipped }: Taken, warn: Warn): void {
  if (skipped > MOST_NAMED)
    warn(`${skipped - MOST_NAMED} more items are skipped, because they cannot be versions`);
}

/** About how many characters a page has. */
function weightOf(page: Item[]): number {
  return page.reduce((sum, { value }) => sum + ITEM_WEIGHT + (textOf(value)?.length ?? 0), 0);
}

function takePage(taken: Taken, page: Item[], taking: Taking, isWanted: Span["isWanted"], warn: Warn): void {
  // Left to itself, the engine keeps many pages, each in several forms, before it frees any: 174 MiB instead of 87.
  if (weightOf(page) > (taken.items > 0 ? HEAVY : 4 * HEAVY)) Bun.gc(true);
  taken.pages++;
  taken.items += page.length;
  const found: Weighed[] = [];
  for (const item of page) {
    const own = withTime(item);
    if (own) taken.latest = Math.max(taken.latest, own.time);
    if (own && !isWanted(own)) continue;
    const version = versionOf(item);
    if (typeof version !== "string") found.push({ ...version, bytes: bytesOf(version) });
    else if (taken.skipped++ < MOST_NAMED) {
      warn(`the item with created ${JSON.stringify(textOf(item.created))} is skipped: ${version}`);
    }
  }
  if (found.length === 0) return;
  const { end } = taken;
  const { isCut, ...fitting } = fit(upToEnds([...taken.versions, ...found], [end], taking), taking);
  Object.assign(taken, { end, ...fitting, isCut: isCut || taken.isCut });
}

/** The versions of both spellings, in the order of taking, to where either reading ended. */
export function merge(
  both: Taken[],
  taking: Taking,
  newest?: Timed,
): { versions: TimedVersion[]; isCut: boolean } {
  const versions = both
    .flatMap((taken) => taken.versions)
    .filter((version) => newest === undefined || compareCreated(version, newest) <= 0);
  const ends = both.map(({ end }) => end);
  const merged = fit(upToEnds(versions, ends, taking), taking);
  return {
    versions: merged.versions,
    isCut: merged.isCut || both.some(({ isCut }) => isCut),
  };
}

function upToEnds(versions: Weighed[], ends: (Timed | undefined)[], taking: Taking): Weighed[] {
  const order = orderOf(taking);
  return versions.filter((version) => ends.every((end) => end === undefined || order(version, end) <= 0));
}

/** As many of the versions, in the order of taking, as may be taken. */
function fit(versions: Weighed[], taking: Taking): Pick<Taken, "versions" | "isCut"> & { end?: Weighed } {
  const sorted = versions.toSorted(orderOf(taking));
  let left = taking.bytes;
  let length = 0;
  for (const { bytes } of sorted) {
    left -= bytes;
    if (left < 0 || length === taking.count) break;
    length++;
  }
  const fitting = sorted.slice(0, length);
  const isCut = length < sorted.length && length < taking.count;
  const end = isCut || length === taking.count ? fitting.at(-1) : undefined;
  return { versions: fitting, isCut, ...(end && { end }) };
}

function orderOf({ newestFirst }: Taking): (a: Timed, b: Timed) => number {
  return newestFirst ? (a, b) => compareCreated(b, a) : compareCreated;
}

function bytesOf({ value, created }: TimedVersion): number {
  return Buffer.byteLength(JSON.stringify({ value, created })) + OVERHEAD;
}

export function isIso({ created }: Timed): boolean {
  return created >= FIRST_ISO;
}

function nothing(): Taken {
  return { versions: [], end: undefined, isCut: false, pages: 0, items: 0, skipped: 0, latest: -Infinity };
}
