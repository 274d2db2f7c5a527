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

/** A day, or a time with its zone, as people and other programs write it. */
const READABLE =
  /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d+))?)?(?:Z|([+-])([01]\d|2[0-3]):([0-5]\d)))?$/;
const MINUTE_MS = 60 * 1000;

const SPANS: [unit: string, ms: number][] = [
  ["days", 24 * 60 * MINUTE_MS],
  ["hours", 60 * MINUTE_MS],
];

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

/**
 * The cursor that a `created` of a version from Concourse gives: in either exact spelling, or as a day (UTC) or an
 * ISO 8601 time with a zone, cut to the millisecond; undefined for any other text.
 */
export function cursorAt(created: string): Timed | undefined {
  const exact = timeOf(created);
  if (exact !== undefined) return { created, time: exact };
  const [, day, clock = "00:00", seconds = "00", fraction = "", sign, hours = 0, minutes = 0] =
    READABLE.exec(created) ?? [];
  const local = timeOf(`${day}T${clock}:${seconds}.${fraction.slice(0, 3).padEnd(3, "0")}Z`);
  if (local === undefined) return undefined;
  const offset = (60 * Number(hours) + Number(minutes)) * MINUTE_MS;
  const time = sign === "-" ? local + offset : local - offset;
  // It names no item, so that it comes before those of its time in either spelling.
  return timeOf(isoCreated(time)) === undefined ? undefined : { created: "", time };
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
 * The sort keys among which are all old-style items from `since` to `until` (ms since 1970), or simply all where
 * one of the two is missing. These keys start with month and day, so other years' items of those days are among
 * them too.
 */
export function oldStyleRanges(since: number | undefined, until: number | undefined): Range[] {
  const all = [{ from: OLD_STYLE_START, to: OLD_STYLE_END }];
  if (since === undefined || until === undefined) return all;
  if (until < since) return [];
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

/** A span of time (ms) in the largest unit that says enough: `10 minutes`, `5 hours`, `12 days`. */
export function spanText(span: number): string {
  const [unit, ms] = SPANS.find(([, one]) => span >= 2 * one) ?? ["minutes", MINUTE_MS];
  const count = Math.round(span / ms);
  return count === 1 ? "1 minute" : `${count} ${unit}`;
}
