import { describe, expect, test } from "bun:test";
import { compareCreated, isoCreated, oldStyleCreated, oldStyleRanges, timeOf } from "../../shared/created.ts";

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

describe("oldStyleRanges", () => {
  const all = [{ from: "0", to: "13" }];

  test.each([
    ["no time", undefined, "2026-11-23T12:00:00Z", all],
    [
      "one year",
      "2026-11-01T01:02:03.456Z",
      "2026-11-23T12:00:00Z",
      [{ from: "11/01/2026 01:02:03", to: "11/24/2026 12:00:00" }],
    ],
    [
      "the cursor ahead of the clock",
      "2026-11-23T12:00:00Z",
      "2026-11-01T00:00:00Z",
      [{ from: "11/23/2026 12:00:00", to: "11/24/2026 12:00:00" }],
    ],
    [
      "a year's end",
      "2026-12-30T12:00:00Z",
      "2026-12-31T12:00:00Z",
      [
        { from: "12/30/2026 12:00:00", to: "13" },
        { from: "0", to: "01/01/2027 12:00:00" },
      ],
    ],
    ["a whole year", "2025-11-23T12:00:00Z", "2026-11-23T12:00:00Z", all],
    ["a year less a day, on one day", "2025-11-24T12:00:00Z", "2026-11-23T12:00:00Z", all],
    [
      "a year less two days",
      "2025-11-25T12:00:00Z",
      "2026-11-23T12:00:00Z",
      [
        { from: "11/25/2025 12:00:00", to: "13" },
        { from: "0", to: "11/24/2026 12:00:00" },
      ],
    ],
    ["two years", "2024-12-31T12:00:00Z", "2026-01-01T12:00:00Z", all],
  ])("%s", (_, since, now, ranges) => {
    expect(oldStyleRanges(since === undefined ? undefined : utc(since), utc(now))).toEqual(ranges);
  });
});
