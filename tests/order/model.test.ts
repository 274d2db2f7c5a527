import { test } from "bun:test";
import * as fc from "fast-check";
import { play, scenarios } from "../support/model.ts";

const MINUTE = 60_000;
const { MODEL_SEED, MODEL_RUNS = "1500" } = process.env;

/** One seed for all, so that no change fails for what it has not changed; `MODEL_SEED` and `MODEL_RUNS` look further. */
const seed = Number(MODEL_SEED ?? 1);

test.each([
  ["five minutes off, with keep", { skew: 5 * MINUTE, keeps: true }],
  ["two hours off", { skew: 120 * MINUTE, keeps: false }],
  ["a second off, with writers in the old spelling", { skew: 1000, keeps: false, oldWriters: true }],
  ["a minute off, with writers in the old spelling", { skew: MINUTE, keeps: false, oldWriters: true }],
])(
  "puts keep their order in any interleaving, with clocks %s",
  async (_, options) => {
    await fc.assert(fc.asyncProperty(scenarios(options), play), { numRuns: Number(MODEL_RUNS), seed });
  },
  Number(MODEL_RUNS) * 60,
);
