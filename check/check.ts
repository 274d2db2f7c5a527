import {
  compareCreated,
  FIRST_ISO,
  HEAD_CREATED,
  isoCreated,
  type Timed,
  timeOf,
} from "../shared/created.ts";
import { textOf, timed } from "../shared/dynamodb.ts";
import { newestItems, newestOldStyleItems, takeItems } from "../shared/history.ts";
import { type CheckRequest, DEFAULT_HISTORY, type Version } from "../shared/schema.ts";
import { connectionOf } from "../shared/source.ts";
import type { StepContext } from "../shared/step.ts";
import { type Item, openTable, type Table } from "../shared/transport.ts";

type TimedVersion = Timed & Version;

/** The versions that Concourse asks for, oldest first; an item that cannot be one is passed over with a warning. */
export async function check(
  { source, version }: CheckRequest,
  { warn, debug }: StepContext,
): Promise<Version[]> {
  const table = openTable(connectionOf(source, { debug, warn }));
  const read = (item: Item) => versionOf(item, warn);
  const cursor = cursorOf(version?.created);
  const ask = async () => (cursor === undefined ? [] : await versionsFrom(table, cursor, read));
  let versions = await ask();
  if (versions.length === 0) {
    versions = await newestItems(table, version == null ? (source.history ?? DEFAULT_HISTORY) : 1, read);
    const [newest] = versions;
    if (cursor !== undefined && newest !== undefined && compareCreated(newest, cursor) > 0) {
      // A put with keep has deleted the cursor's item between the queries: others are newer too.
      const newer = await ask();
      if (newer.length > 0) versions = newer;
    }
  }
  if (versions.length === 0 && source.initial_value != null) {
    return [{ value: source.initial_value, created: HEAD_CREATED }];
  }
  return versions.map(({ value, created }) => ({ value, created }));
}

function cursorOf(created: string | undefined): Timed | undefined {
  const time = created === undefined ? undefined : timeOf(created);
  return created === undefined || time === undefined ? undefined : { created, time };
}

async function versionsFrom(
  table: Table,
  cursor: Timed,
  read: (item: Item) => TimedVersion | undefined,
): Promise<TimedVersion[]> {
  const fromCursor = isoCreated(cursor.time);
  const [iso, oldStyle] = await Promise.all([
    takeItems(table, { from: fromCursor > FIRST_ISO ? fromCursor : FIRST_ISO }, {}, read),
    newestOldStyleItems(table, { count: Infinity, since: cursor.time }, read),
  ]);
  return [...iso, ...oldStyle].filter((found) => compareCreated(found, cursor) >= 0).toSorted(compareCreated);
}

function versionOf(item: Item, warn: StepContext["warn"]): TimedVersion | undefined {
  const created = textOf(item.created) ?? "";
  const time = timed(item)?.time;
  const value = textOf(item.value);
  if (time !== undefined && value !== undefined && !value.includes("\0")) return { created, time, value };
  let reason = "its value has a NUL character in it, which Concourse cannot store";
  if (value === undefined)
    reason = item.value ? "its value is neither a string nor a number" : "it has no value";
  if (time === undefined) reason = "its created is no time in a spelling that is known here";
  warn(`the item with created ${JSON.stringify(created)} is passed over: ${reason}`);
  return undefined;
}
