import type { AttributeValue } from "@aws-sdk/client-dynamodb";
import { compareCreated, FIRST_ISO, HEAD_CREATED, isoCreated, type Timed, timeOf } from "./created.ts";
import { claimPlace, deleteItem, type NewItem, putItem, queryItems, textOf, timed } from "./dynamodb.ts";
import { newestIsoItems, newestOldStyleItems, takeItems } from "./history.ts";
import type { Item, Table } from "./transport.ts";

/** How a put went. */
export interface Put {
  created: string;
  /** False when the newest value was this one already and nothing was put. */
  written: boolean;
}

/** What a put goes by, besides its value. */
export interface PutOptions {
  /** Whether a newest value that is this one already is answer enough. */
  skipUnchanged: boolean;
  /** Which build puts; kept with the item. */
  putBuild: string | undefined;
  warn: (message: string) => void;
}

const HOUR_MS = 60 * 60 * 1000;
const FAR_AHEAD_MS = 5 * 60 * 1000;
const MOST_DELETED = 100;
const FIRST_NOW = Date.UTC(2000, 0);
const LAST_PLACE = Date.UTC(9999, 11, 31, 23, 59, 59, 999);

/**
 * Puts a value at the end of the key's history, whatever the workers' clocks and however many put at once: once
 * it is stored it is the newest, and no reader has seen a newer one before. For that, a put claims the next
 * place on the key's head before it fills it, and fills a claimed place that it finds free: a claim is never
 * replaced. Throws an Error that says so when nobody can tell whether the value is stored.
 */
export async function putNewest(
  table: Table,
  value: string,
  { skipUnchanged, putBuild, warn }: PutOptions,
): Promise<Put> {
  const putId = crypto.randomUUID();
  for (;;) {
    const { newest, putNext } = await look(table, skipUnchanged);
    if (newest && skipUnchanged && textOf(newest.item.value) === value)
      return { created: newest.created, written: false };
    const created = await nextPlace(table, newest, putNext, warn);
    if (created !== undefined && (await fill(table, { created, value, putId, putBuild }))) {
      if ((timeOf(created) ?? 0) > Date.now() + FAR_AHEAD_MS) {
        warn(
          `the key's history is ahead of this worker's clock by more than five minutes; the item is of ${created}`,
        );
      }
      return { created, written: true };
    }
  }
}

/**
 * Deletes what is beyond the newest `keep` items, oldest first and at most 100. An item stays while it or the
 * next newer one is not an hour older than the one just put: a reader may not have seen it yet, and a slow
 * writer may be on the way to its place.
 */
export async function deleteOldest(table: Table, keep: number, justPut: string): Promise<void> {
  const attributes = ["created"];
  const [iso, oldStyle] = await Promise.all([
    newestIsoItems(table, keep, timed, attributes),
    newestOldStyleItems(table, { count: Infinity, since: undefined }, timed, attributes),
  ]);
  const oldestKept = [...iso, ...oldStyle].toSorted(compareCreated).at(-keep);
  if (oldestKept === undefined) return;
  const upToKept = { from: FIRST_ISO, to: isoCreated(oldestKept.time) };
  const oldestIso = await takeItems(table, upToKept, { limit: MOST_DELETED + 1, attributes }, timed);
  const oldest = [...oldestIso, ...oldStyle].toSorted(compareCreated);
  const hourBefore = Math.min(timeOf(justPut) ?? 0, Date.now()) - HOUR_MS;
  for (const [index, item] of oldest.slice(0, MOST_DELETED).entries()) {
    const nextNewer = oldest[index + 1];
    if (!nextNewer || nextNewer.time >= hourBefore || compareCreated(item, oldestKept) >= 0) return;
    await deleteItem(table, item.created);
  }
}

/** The newest item and the head's `put_next`. Old-style items, which are in no order, are read only where there are any. */
async function look(table: Table, withValue: boolean) {
  const attributes = withValue ? ["created", "value"] : ["created"];
  const [[newestIso], lastOldStyle] = await Promise.all([
    newestIsoItems(table, 1, timed, attributes),
    firstItems(table, { from: "0", to: HEAD_CREATED }, 2),
  ]);
  const head = lastOldStyle.find((item) => item.created?.S === HEAD_CREATED);
  const [newestOldStyle] = lastOldStyle.some((item) => item !== head)
    ? await newestOldStyleItems(table, { count: 1, since: newestIso?.time }, timed, attributes)
    : [];
  const newest = [newestIso, newestOldStyle]
    .filter((item) => item !== undefined)
    .toSorted(compareCreated)
    .at(-1);
  return { newest, putNext: head?.put_next };
}

/** Where the next item goes; undefined when somebody else was faster to claim a place. */
async function nextPlace(
  table: Table,
  newest: Timed | undefined,
  putNext: AttributeValue | undefined,
  warn: PutOptions["warn"],
): Promise<string | undefined> {
  const now = Date.now();
  if (now < FIRST_NOW)
    throw new Error(`this worker's clock is wrong, it says ${isoCreated(now)}; nothing is put`);
  const claimed = timeOf(putNext?.S ?? "");
  const isFree = claimed !== undefined && claimed > (newest?.time ?? FIRST_NOW);
  const place = isFree ? claimed : Math.max(now, (newest?.time ?? 0) + 1);
  if (place > LAST_PLACE)
    throw new Error(`no item can be newer than the newest one, of ${newest?.created}; delete it`);
  const created = isoCreated(place);
  if (isFree) return created;
  const outcome = await claimPlace(table, created, putNext);
  if (outcome === "denied") {
    warn("puts at the same time may be missed by readers: allow dynamodb:UpdateItem in the IAM policy");
  }
  return outcome === "overtaken" ? undefined : created;
}

/** Puts the item at its place; false when it is another put's. */
async function fill(table: Table, item: NewItem): Promise<boolean> {
  const outcome = await putItem(table, item);
  if (outcome === "stored") return true;
  try {
    const [there] = await firstItems(table, { from: item.created, to: item.created }, 1);
    if (there !== undefined) return textOf(there.put_id) === item.putId;
    if (outcome === "taken") return false;
    throw outcome;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`the value may be stored, as of ${item.created}, or may not be: ${reason}`, {
      cause: error,
    });
  }
}

async function firstItems(table: Table, range: { from: string; to: string }, limit: number): Promise<Item[]> {
  const pages = queryItems(table, range, {
    newestFirst: true,
    limit,
    attributes: ["created", "put_next", "put_id"],
  });
  const { value } = await pages.next();
  return value ?? [];
}
