import { codeOf, isFinal, tunnelStatus, UNEXPECTED } from "./errors.ts";

/** How often an attempt is made whose answer does not count or that broke. */
export const MOST_ATTEMPTS = 4;

const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 2000;

/** Refusals that pass by themselves. */
const PASSING = new Set([
  "ProvisionedThroughputExceededException",
  "Throttling",
  "ThrottlingException",
  "RequestLimitExceeded",
  "TransactionConflictException",
  "ReplicatedWriteConflictException",
  // STS asks Concourse for its keys.
  "IDPCommunicationErrorException",
]);
const PASSING_STATUSES = new Set([500, 502, 503, 504]);

/**
 * Waits, after so many losses, a random time up to 200 ms, doubled with each of them, 2 s at most; not beyond `endsAt` on
 * `performance.now()`'s clock.
 */
export async function pauseAfter(losses: number, endsAt = Infinity): Promise<void> {
  const pause = Math.random() * Math.min(FIRST_PAUSE_MS * 2 ** (losses - 1), LONGEST_PAUSE_MS);
  await Bun.sleep(Math.max(Math.min(pause, endsAt - performance.now()), 0));
}

/** How often a request is sent again that ended so. */
export function againAfter(error: unknown): "while there is time" | "four times" | "never" {
  const { name, $metadata = {} } = Object(error);
  const status = tunnelStatus(error) ?? $metadata.httpStatusCode;
  if (PASSING.has(name) || PASSING_STATUSES.has(status)) return "while there is time";
  if (name === UNEXPECTED || name === "TimeoutError" || $metadata.clockSkewCorrected) return "four times";
  if (status !== undefined || isFinal(error)) return "never";
  // What has a code is the network's; all else, credentials that are missing above all, stays as it is.
  return codeOf(error) === undefined ? "never" : "four times";
}
