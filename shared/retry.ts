import { unexpected } from "./answer.ts";
import { againAfter, MOST_ATTEMPTS, pauseAfter } from "./again.ts";
import { failure } from "./errors.ts";
import type { Attempt, Request, Table } from "./transport.ts";

const TOTAL_MS = 60_000;

/** From then on a put sends nothing but a PutItem that it has sent before. */
const LAST_START_MS = 45_000;

/** An attempt that had less would be cut, and a put be in doubt for it. */
const LEAST_MS = 500;

/**
 * The answer to a request, sent again as often as what became of it allows: what passes by itself until the step's
 * time is up, what broke or was not DynamoDB's answer four times, a refusal once. Throws an Error in the user's words.
 */
export async function answerTo<Output>(
  table: Table,
  request: Request,
  send: (attempt: Attempt) => Promise<Output>,
): Promise<Output> {
  let broken = 0;
  let attempts = 0;
  let attempt: Attempt | undefined;
  let error: unknown = new DOMException("out of time", "TimeoutError");
  for (;;) {
    const endsAt = endOf(table, request, attempts > 0 || request.isInDoubt);
    if (endsAt - performance.now() < LEAST_MS) break;
    attempts++;
    attempt = { accepts: request.accepts, endsAt, isUnanswered: false };
    table.endsAt = endsAt;
    try {
      return await withinTime(endsAt, send(attempt).catch(asUnread(attempt)));
    } catch (failed) {
      // What ended an attempt early says less than what became of those before it.
      const isCut = attempts > 1 && Object(failed).name === "TimeoutError" && endsAt <= performance.now();
      if (!isCut) error = failed;
    }
    request.isInDoubt ||= attempt.isUnanswered;
    const again = againAfter(error);
    if (again === "four times") broken++;
    if (again === "never" || broken === MOST_ATTEMPTS) break;
    await pauseAfter(attempts, endOf(table, request, true));
  }
  throw failure(error, request.action, table, { host: attempt?.host, attempts });
}

/** Whether there is time left for a look: a request that was not sent before, and another one after it. */
export function hasTime(table: Table): boolean {
  return endOf(table, {}, false) - performance.now() > 2 * LEAST_MS;
}

/** Sets a reader's deadline anew: who still receives pages is not stuck, however long the history is. */
export function renewDeadline(table: Table): void {
  if (!table.isForPut) table.startedAt = performance.now();
}

function endOf(table: Table, { isPutItem = false }: Partial<Request>, isSentBefore: boolean): number {
  const startedAt = (table.startedAt ??= performance.now());
  const isLate = isPutItem && (isSentBefore || performance.now() < startedAt + LAST_START_MS);
  return startedAt + (table.isForPut && !isLate ? LAST_START_MS : TOTAL_MS);
}

async function withinTime<Output>(endsAt: number, answer: Promise<Output>): Promise<Output> {
  const over = AbortSignal.timeout(Math.max(endsAt - performance.now(), 0));
  let stop = () => {};
  const timeout = new Promise<never>((_, reject) => {
    stop = () => reject(over.reason);
    over.addEventListener("abort", stop);
  });
  try {
    return await Promise.race([answer, timeout]);
  } finally {
    // Else the signal keeps each answer until its time is up.
    over.removeEventListener("abort", stop);
  }
}

/** An answer that the SDK could not read does not count either, however well it looked. */
function asUnread(attempt: Attempt): (error: unknown) => never {
  return (error) => {
    const { $metadata, $fault } = Object(error);
    const status = $metadata?.httpStatusCode;
    if (status === undefined || $fault !== undefined) throw error;
    attempt.isUnanswered = true;
    throw unexpected(status);
  };
}
