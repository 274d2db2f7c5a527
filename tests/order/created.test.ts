import { describe, expect, test } from "bun:test";
import {
  compareCreated,
  cursorAt,
  isoCreated,
  oldStyleCreated,
  oldStyleRanges,
  timeOf,
} from "../../shared/created.ts";

const utc = (iso: string) => Date.parse(iso);

describe("timeOf", () => {
  test.each([
    ["2026-11-23T15:04:05.123Z", "2026-11-23T15:04:05.123Z"],
    ["11/23/2026 15:04:05", "2026-11-23T15:04:05.000Z"],
    ["02/29/2024 00:00:00", "2024-02-29T00:00:00.000Z"],
    ["1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00.000Z"],
  ])("%s is a time", (created, iso) => {
    expect(timeOf(created)).toBe(utc(iso));
  });

  test.each([
    "",
    "yesterday",
    "2026-11-23",
    "2026-11-23T15:04:05Z",
    "2026-11-23T15:04:05.123",
    "2026-11-23T15:04:05.123+00:00",
    "2026-11-23t15:04:05.123z",
    "2026-02-30T00:00:00.000Z",
    "+02026-11-23T15:04:05.123Z",
    " 2026-11-23T15:04:05.123Z",
    "2026-11-23T15:04:05.123Z\n",
    "1/2/2026 15:04:05",
    "13/01/2026 00:00:00",
    "02/30/2026 00:00:00",
    "11/23/2026 24:00:00",
    "11/23/2026 15:04:05 ",
    "11/23/2026 15:04:05\n",
  ])("%j is none", (created) => {
    expect(timeOf(created)).toBeUndefined();
  });
});

test("a time is spelled in both ways", () => {
  const time = utc("2026-01-02T03:04:05.678Z");
  expect(isoCreated(time)).toBe("2026-01-02T03:04:05.678Z");
  expect(oldStyleCreated(time)).toBe("01/02/2026 03:04:05");
});

test("at one time the older spelling comes first", () => {
  const iso = { created: "2026-01-02T03:04:05.000Z", time: utc("2026-01-02T03:04:05Z") };
  const old = { created: "01/02/2026 03:04:05", time: iso.time };
  const later = { created: "12/31/2025 00:00:00", time: iso.time + 1 };
  expect([later, iso, old].toSorted(compareCreated)).toEqual([old, iso, later]);
});

describe("cursorAt", () => {
  test.each([
    ["2026-11-23T15:04:05.123Z", "2026-11-23T15:04:05.123Z"],
    ["11/23/2026 15:04:05", "2026-11-23T15:04:05.000Z"],
    ["2025-06-01", "2025-06-01T00:00:00.000Z"],
    ["2024-02-29", "2024-02-29T00:00:00.000Z"],
    ["2025-06-01T12:30Z", "2025-06-01T12:30:00.000Z"],
    ["2025-06-01 12:30:15Z", "2025-06-01T12:30:15.000Z"],
    ["2025-06-01T12:30:15.5Z", "2025-06-01T12:30:15.500Z"],
    ["2025-06-01T12:30:15.123999Z", "2025-06-01T12:30:15.123Z"],
    ["2025-06-01T00:30:00+02:00", "2025-05-31T22:30:00.000Z"],
    ["2025-12-31 23:30-05:30", "2026-01-01T05:00:00.000Z"],
  ])("%s is a cursor", (created, iso) => {
    expect(cursorAt(created)?.time).toBe(utc(iso));
  });

  test("one that is spelled otherwise comes before the items of its time", () => {
    const time = "2025-06-01T00:00:00.000Z";
    const items = [oldStyleCreated(utc(time)), time].map((created) => ({ created, time: utc(time) }));
    const cursor = cursorAt("2025-06-01");
    expect(cursor && items.toSorted(compareCreated).every((item) => compareCreated(item, cursor) > 0)).toBe(
      true,
    );
  });

  test.each([
    "",
    "yesterday",
    "2025-02-29",
    "2025-6-1",
    "20250601",
    "2025-06-01T12:30",
    "2025-06-01 12:30:00",
    "2025-06-01T12Z",
    "2025-06-01T24:00Z",
    "2025-06-01T12:30:60Z",
    "2025-06-01T12:30:15.Z",
    "2025-06-01T12:30+24:00",
    "2025-06-01T12:30+0200",
    "2025-06-01T12:30:15.123 Z",
    "2025-06-01Z",
    "06/01/2025",
    "9999-12-31T23:59-01:00",
    "0000-01-01T00:00+01:00",
    "2025-06-01\n",
  ])("%j is none", (created) => {
    expect(cursorAt(created)).toBeUndefined();
  });
});

describe("oldStyleRanges", () => {
  const all = [{ from: "0", to: "13" }];

  test.each([
    ["no time", undefined, "2026-11-23T12:00:00Z", all],
    ["no end", "2026-11-23T12:00:00Z", undefined, all],
    ["an end before the start", "2026-11-23T12:00:00Z", "2026-11-23T11:00:00Z", []],
    [
      "one year",
      "2026-11-01T01:02:03.456Z",
      "2026-11-24T12:00:00Z",
      [{ from: "11/01/2026 01:02:03", to: "11/24/2026 12:00:00" }],
    ],
    [
      "a year's end",
      "2026-12-30T12:00:00Z",
      "2027-01-01T12:00:00Z",
      [
        { from: "12/30/2026 12:00:00", to: "13" },
        { from: "0", to: "01/01/2027 12:00:00" },
      ],
    ],
    ["a whole year", "2025-11-23T12:00:00Z", "2026-11-24T12:00:00Z", all],
    ["a year, on one day", "2025-11-24T12:00:00Z", "2026-11-24T12:00:00Z", all],
    [
      "a year less a day",
      "2025-11-25T12:00:00Z",
      "2026-11-24T12:00:00Z",
      [
        { from: "11/25/2025 12:00:00", to: "13" },
        { from: "0", to: "11/24/2026 12:00:00" },
      ],
    ],
    ["two years", "2024-12-31T12:00:00Z", "2026-01-02T12:00:00Z", all],
  ])("%s", (_, since, until, ranges) => {
    const timeIn = (time: string | undefined) => (time === undefined ? undefined : utc(time));
    expect(oldStyleRanges(timeIn(since), timeIn(until))).toEqual(ranges);
  });
});
