import { cursorAt, HEAD_CREATED, type Timed } from "../shared/created.ts";
import { StatusError } from "../shared/errors.ts";
import { versionsFor } from "../shared/history.ts";
import { type CheckRequest, DEFAULT_HISTORY, type Version } from "../shared/schema.ts";
import { connectionOf } from "../shared/source.ts";
import type { StepContext } from "../shared/step.ts";
import { openTable } from "../shared/transport.ts";

/**
 * The versions that Concourse asks for, oldest first; with `--value`, the newest one alone, and a StatusError where
 * there is none.
 */
export async function check(
  { source, version }: CheckRequest,
  { warn, debug, hideSecret, valueOnly }: StepContext,
): Promise<Version[]> {
  const cursor = version == null || valueOnly ? undefined : cursorOf(version.created, warn);
  const history = version == null && !valueOnly ? (source.history ?? DEFAULT_HISTORY) : 1;
  const table = openTable(await connectionOf(source, { debug, warn, hideSecret }));
  const found = await versionsFor(table, { cursor, history }, warn);
  const versions = found ?? initialVersions(source.initial_value);
  if (valueOnly && versions.length === 0) {
    throw new StatusError(
      3,
      `the key ${JSON.stringify(source.key)} has no version; check source.key, or put a value first`,
    );
  }
  return versions.map(({ value, created }) => ({ value, created }));
}

function cursorOf(created: string | undefined, warn: StepContext["warn"]): Timed | undefined {
  const cursor = created === undefined ? undefined : cursorAt(created);
  if (!cursor) {
    const problem =
      created === undefined
        ? "is missing or not a string"
        : `${JSON.stringify(created)} is not a valid timestamp`;
    warn(`version.created ${problem} (example: 2026-11-23T15:04:05.123Z); returning the newest version`);
  }
  return cursor;
}

function initialVersions(value: string | null | undefined): Version[] {
  return value == null ? [] : [{ value, created: HEAD_CREATED }];
}
