import type { AttributeValue } from "@aws-sdk/client-dynamodb";
import {
  compareCreated,
  FIRST_ISO,
  HEAD_CREATED,
  isoCreated,
  spanText,
  type Timed,
  timeOf,
} from "./created.ts";
import {
  claimPlace,
  deleteItem,
  isStored,
  mayBeStored,
  type NewItem,
  putItem,
  type Reading,
  withTime,
} from "./dynamodb.ts";
import { asciiJson, awsCommand, shellWord } from "./commands.ts";
import { newestIsoItems, newestOldStyleItems, takeItems } from "./history.ts";
import { pauseAfter } from "./again.ts";
import { hasTime } from "./retry.ts";
import { versionOf } from "./versions.ts";
import { dateOf, type Item, now, type Table } from "./transport.ts";

/** How a put went. */
export interface Put {
  value: string;
  /** When the version was put, in today's spelling unless it is one that was there already. */
  created: string;
  /** False when the newest value was this one already and nothing was put. */
  written: boolean;
}

/** The newest version, as far as a put goes by it. */
export interface Newest {
  value: string;
  created: string;
}

/** What a put goes by. */
export interface PutOptions {
  /**
   * What to put after the newest version, decided anew at each look; undefined: the newest value is already the right
   * one. Without any version it is told whether the key has no item at all. What it throws ends the put.
   */
  decide: (newest: Newest | undefined, isEmpty: boolean) => string | undefined;
  /** Whether that decision needs the newest value. */
  needsNewest: boolean;
  /** Whether the item must directly follow the version that the decision was made on. */
  mustFollow: boolean;
  /** Which build puts; kept with the item. */
  putBuild: string | undefined;
  warn: (message: string) => void;
  /** Takes what tells, before a signal ends the step, what became of the value. */
  atSignal: (settle: () => Promise<string>) => void;
}

/** What a put finds: the newest item, the newest version where it is needed, and the place that the head claims. */
interface Found {
  newest: TimedItem | undefined;
  version: Newest | undefined;
  /** Whether the key has no item of any kind. */
  isEmpty: boolean;
  putNext: AttributeValue | undefined;
}

const HOUR_MS = 60 * 60 * 1000;
const FAR_AHEAD_MS = 5 * 60 * 1000;
const MOST_DELETED = 100;
const REPAIR_SECTION = "Repair a history from the future";
const FIRST_NOW = Date.UTC(2000, 0);
/** Concourse kills a step 10 s after it has asked it to end. */
const SETTLE_MS = 5000;

const OLD_STYLE_AHEAD_MS = 25 * HOUR_MS;
const LAST_PLACE = Date.UTC(9999, 11, 31, 23, 59, 59, 999);

/**
 * Puts a value at the end of the key's history, whatever the workers' clocks and however many put at once: once
 * it is stored it is the newest, and no reader has seen a newer one before (ORDER.md tells how). Throws an Error
 * when nothing is stored, a StatusError 5 when nobody can tell.
 */
export async function putNewest(table: Table, options: PutOptions): Promise<Put> {
  const { decide, putBuild, warn, atSignal } = options;
  const putId = crypto.randomUUID();
  let halted: Promise<never> | undefined;
  for (let losses = 0; ; losses++) {
    if (losses > 0) await pauseAfter(losses);
    if (!hasTime(table)) throw new Error(overtaken(table, losses));
    const found = await readNewest(table, options);
    const value = decide(found.version, found.isEmpty);
    if (value === undefined && found.version) return { ...found.version, written: false };
    const created = await nextPlace(table, found, options);
    if (value === undefined || created === undefined) continue;
    // A signal may have come meanwhile: nothing is put at another place while it settles.
    await halted;
    const item = { created, value, putId, putBuild };
    atSignal(async () => {
      halted = new Promise(() => {});
      return settle(table, item);
    });
    const outcome = await putItem(table, item).catch(async (error: unknown) => {
      await halted;
      throw error;
    });
    await halted;
    if (outcome === "stored") {
      atSignal(async () => isStored(created));
      warnOfFuture(table, created, warn);
      return { value, created, written: true };
    }
  }
}

/** What became of a put that a signal ends while its item may be on the way; told within 5 s. */
async function settle(table: Table, item: NewItem): Promise<string> {
  const outcome = await Promise.race([
    putItem(table, item, true).catch(() => "unknown"),
    Bun.sleep(SETTLE_MS),
  ]);
  if (outcome === "stored") return isStored(item.created);
  return outcome === "taken" ? "the value is not stored: another put was faster" : mayBeStored(item.created);
}

/**
 * Deletes what is beyond the newest `keep` versions, oldest first and at most 100 items, by the rule of ORDER.md: an
 * item stays while it or the next newer one is not an hour older than the earliest of the item just put, the
 * worker's clock and the table's. Throws an Error in the user's words.
 */
export async function deleteOldest(table: Table, keep: number, justPut: string): Promise<void> {
  const versions = { attributes: ["created"], versionsOnly: true };
  const isoVersions = await newestIsoItems(table, keep, withTime, versions);
  const since = isoVersions.length < keep ? undefined : isoVersions[0]?.time;
  const until = Math.max(now(table) + OLD_STYLE_AHEAD_MS, isoVersions.at(-1)?.time ?? 0);
  const oldStyleVersions = await newestOldStyleItems(
    table,
    { count: keep, since, until },
    withTime,
    versions,
  );
  const oldestKept = [...isoVersions, ...oldStyleVersions].toSorted(compareCreated).at(-keep);
  if (oldestKept === undefined) return;
  const attributes = ["created"];
  const upToKept = { from: FIRST_ISO, to: isoCreated(oldestKept.time) };
  const [oldestIso, oldStyle] = await Promise.all([
    upToKept.to < FIRST_ISO
      ? []
      : takeItems(table, upToKept, { limit: MOST_DELETED + 1, attributes }, withTime),
    newestOldStyleItems(table, { count: Infinity, since: undefined }, withTime, { attributes }),
  ]);
  const oldest = [...oldestIso, ...oldStyle].toSorted(compareCreated);
  const earliest = Math.min(timeOf(justPut) ?? 0, Date.now(), dateOf(table) ?? Infinity);
  for (const [index, item] of oldest.slice(0, MOST_DELETED).entries()) {
    const nextNewer = oldest[index + 1];
    if (!nextNewer || nextNewer.time >= earliest - HOUR_MS || compareCreated(item, oldestKept) >= 0) return;
    await deleteItem(table, item.created);
  }
}

/** The newest item, and what the head claims. Old-style items, which are in no order, are read only where there are any. */
async function readNewest(table: Table, { needsNewest, mustFollow }: PutOptions): Promise<Found> {
  const attributes = needsNewest ? ["created", "value"] : ["created"];
  let hasIso = false;
  const read = (item: Item) => {
    hasIso = true;
    return withTime(item);
  };
  const [[newestIso], lastOldStyle] = await Promise.all([
    newestIsoItems(table, 1, read, { attributes }),
    takeItems(
      table,
      { from: "0", to: HEAD_CREATED },
      { newestFirst: true, limit: 2, attributes: ["created", "put_next"] },
      (item) => item,
    ),
  ]);
  const head = lastOldStyle.find((item) => item.created?.S === HEAD_CREATED);
  const hasOldStyle = lastOldStyle.some((item) => item !== head);
  const putNext = head?.put_next;
  let newest = await newestOf(table, newestIso, hasOldStyle, { attributes });
  // The place may have been claimed after an item that came when the newest one was read already.
  if (mustFollow && isClaimed(putNext, newest)) {
    newest = await newestOf(table, await newestIsoItem(table, { attributes }), hasOldStyle, { attributes });
  }
  const isEmpty = !hasIso && !hasOldStyle;
  if (!needsNewest || newest === undefined) return { newest, version: undefined, isEmpty, putNext };
  const version = versionIn(newest) ?? versionIn(await newestVersion(table, newest, hasOldStyle));
  return { newest, version, isEmpty, putNext };
}

type TimedItem = Timed & { item: Item };

async function newestIsoItem(table: Table, reading: Reading): Promise<TimedItem | undefined> {
  return (await newestIsoItems(table, 1, withTime, reading))[0];
}

/**
 * The newest item where `newestIso` is the newest in today's spelling. Old-style ones that are far ahead do not count, but
 * where an item in today's spelling, of the time `latestIso`, is later still.
 */
async function newestOf(
  table: Table,
  newestIso: TimedItem | undefined,
  hasOldStyle: boolean,
  reading: Reading,
  latestIso = newestIso?.time ?? 0,
): Promise<TimedItem | undefined> {
  if (!hasOldStyle) return newestIso;
  const until = Math.max(now(table) + OLD_STYLE_AHEAD_MS, latestIso);
  const oldStyle = await newestOldStyleItems(
    table,
    { count: 1, since: newestIso?.time, until },
    withTime,
    reading,
  );
  return [...(newestIso ? [newestIso] : []), ...oldStyle].toSorted(compareCreated).at(-1);
}

/** The newest version, where the newest item is none. */
async function newestVersion(
  table: Table,
  newest: TimedItem,
  hasOldStyle: boolean,
): Promise<TimedItem | undefined> {
  const reading = { attributes: ["created", "value"], versionsOnly: true };
  const upTo = { from: FIRST_ISO, to: isoCreated(newest.time) };
  const [newestIso] =
    upTo.to < FIRST_ISO
      ? []
      : await takeItems(table, upTo, { ...reading, newestFirst: true, limit: 1 }, withTime);
  const version = await newestOf(table, newestIso, hasOldStyle, reading, newest.time);
  return version && compareCreated(version, newest) < 0 ? version : undefined;
}

function versionIn(found: TimedItem | undefined): Newest | undefined {
  const version = found && versionOf(found.item);
  return typeof version === "object" ? version : undefined;
}

function isClaimed(putNext: AttributeValue | undefined, newest: Timed | undefined): boolean {
  const claimed = timeOf(putNext?.S ?? "");
  return claimed !== undefined && claimed > (newest?.time ?? FIRST_NOW);
}

/** Where the next item goes; undefined when somebody else was faster to claim a place. */
async function nextPlace(
  table: Table,
  { newest, putNext }: Found,
  { mustFollow, warn }: PutOptions,
): Promise<string | undefined> {
  const time = now(table);
  if (time < FIRST_NOW || time > LAST_PLACE) {
    const whose = dateOf(table) === undefined ? "this worker's" : "the endpoint's";
    throw new Error(`${whose} clock is wrong: it says ${new Date(time).toUTCString()}; nothing is stored`);
  }
  if (isClaimed(putNext, newest)) return putNext?.S;
  const place = Math.max(time, (newest?.time ?? 0) + 1);
  if (place > LAST_PLACE) {
    throw new Error(
      `the newest item has the latest possible timestamp (created ${newest?.created}), so no newer version can be put; nothing is stored. ${dateOf(table) === undefined ? `See README, "${REPAIR_SECTION}"` : repair(table)}`,
    );
  }
  const created = isoCreated(place);
  const outcome = await claimPlace(table, created, putNext);
  if (outcome === "denied" && mustFollow) {
    throw new Error(
      "bump and expect require the IAM action dynamodb:UpdateItem, for all writers of the key; nothing is stored",
    );
  }
  if (outcome === "denied") {
    warn(
      "these credentials are not allowed to call dynamodb:UpdateItem, so readers may miss versions put at the same moment; allow it in their IAM policy",
    );
  }
  return outcome === "overtaken" ? undefined : created;
}

function overtaken({ tableName, region }: Table, losses: number): string {
  return `table ${tableName} in ${region}: other puts of this key were faster ${losses} times, until the 45 s for a put were over; nothing is stored. Run it again, or let fewer jobs put this key at once`;
}

function warnOfFuture(table: Table, created: string, warn: PutOptions["warn"]): void {
  const ahead = (timeOf(created) ?? 0) - now(table);
  if (ahead <= FAR_AHEAD_MS) return;
  warn(
    dateOf(table) === undefined
      ? `the key's newest version is ${spanText(ahead)} ahead of this worker's clock, and the new one, of ${created}, follows it: either this worker's clock is behind, or another's was ahead (README, "${REPAIR_SECTION}")`
      : `the key's newest version was ${spanText(ahead)} in the future, so the new version is, too (created ${created}). ${repair(table)}`,
  );
}

/** How to bring a history back from the future, by commands to paste. */
function repair(table: Table): string {
  const names = asciiJson({ "#k": table.partitionKey, "#c": "created" });
  const values = asciiJson({ ":k": { S: table.key }, ":now": { S: isoCreated(now(table)) } });
  const query = awsCommand(table, "query", [
    "--consistent-read --key-condition-expression '#k = :k AND #c > :now' --projection-expression '#c'",
    `--expression-attribute-names ${shellWord(names)} --expression-attribute-values ${shellWord(values)}`,
  ]);
  const head = awsCommand(table, "delete-item", [
    `--key ${shellWord(asciiJson({ [table.partitionKey]: { S: table.key }, created: { S: HEAD_CREATED } }))}`,
  ]);
  return `To repair it (README, "${REPAIR_SECTION}"): pause all puts, list the items of the future with: ${query} ; delete each of them, and then the key's head item with: ${head}`;
}
