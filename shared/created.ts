/** `created` of a key's head, which is no version and never an item that somebody put. */
export const HEAD_CREATED = "1970-01-01T00:00:00.000Z";

/** The first `created` in today's spelling, which starts with its year; what the C# resource wrote starts with `0` or `1`. */
export const FIRST_ISO = "2";

/** The sort keys from `from` to `to`, both included; without `to`, to the end. */
export interface Range {
  from: string;
  to?: string;
}

const OLD_STYLE_START = "0";
const OLD_STYLE_END = "13";
const DAY_MS = 24 * 60 * 60 * 1000;

const OLD_STYLE = /^(\d\d)\/(\d\d)\/(\d{4}) (\d\d):(\d\d):(\d\d)$/;

/** Spells a time (ms since 1970, to the end of the year 9999) in today's way: `2026-11-23T15:04:05.123Z`. */
export function isoCreated(time: number): string {
  return new Date(time).toISOString();
}

/** Spells a time (ms since 1970) in the C# resource's way, whole seconds in UTC: `11/23/2026 15:04:05`. */
export function oldStyleCreated(time: number): string {
  const [date = "", clock = ""] = isoCreated(time).split("T");
  const [year, month, day] = date.split("-");
  return `${month}/${day}/${year} ${clock.slice(0, 8)}`;
}

/** The time (ms since 1970) that a `created` tells in either exact spelling; undefined for any other text. */
export function timeOf(created: string): number | undefined {
  const [, month, day, year, hours, minutes, seconds] = OLD_STYLE.exec(created) ?? [];
  const iso = year === undefined ? created : `${year}-${month}-${day}T${hours}:${minutes}:${seconds}.000Z`;
  const time = Date.parse(iso);
  // Date.parse takes more spellings than one, and some days that no month has.
  return !Number.isNaN(time) && iso.length === HEAD_CREATED.length && isoCreated(time) === iso
    ? time
    : undefined;
}

/** Orders two items by time, at one time the older spelling first. */
export function compareCreated(a: Timed, b: Timed): number {
  return a.time - b.time || (a.created < b.created ? -1 : Number(a.created > b.created));
}

/** A `created` beside the time (ms since 1970) that it tells. */
export interface Timed {
  created: string;
  time: number;
}

/**
 * The sort keys among which are all old-style items from `since` (ms since 1970) on, or simply all, to one day
 * after the later of `now` and `since`. These keys start with month and day, so other years' items of those
 * days are among them too.
 */
export function oldStyleRanges(since: number | undefined, now: number): Range[] {
  const all = [{ from: OLD_STYLE_START, to: OLD_STYLE_END }];
  if (since === undefined) return all;
  const until = Math.max(since, now) + DAY_MS;
  const from = oldStyleCreated(since);
  const to = oldStyleCreated(until);
  const years = new Date(until).getUTCFullYear() - new Date(since).getUTCFullYear();
  if (years === 0) return [{ from, to }];
  const sharesNoDay = to.slice(0, 5) < from.slice(0, 5);
  if (years === 1 && sharesNoDay) {
    return [
      { from, to: OLD_STYLE_END },
      { from: OLD_STYLE_START, to },
    ];
  }
  return all;
}
