import type { Connection } from "../shared/connection.ts";
import { HEAD_CREATED } from "../shared/created.ts";
import { ITEM_BYTES, itemBytes, tooLarge } from "../shared/dynamodb.ts";
import { shown, verbatim } from "../shared/commands.ts";
import { StatusError } from "../shared/errors.ts";
import { versionsFor } from "../shared/history.ts";
import { deleteOldest, type Newest, putNewest } from "../shared/order.ts";
import type { OutRequest, Source, Version } from "../shared/schema.ts";
import { type Metadata, metadataOf } from "../shared/metadata.ts";
import { connectionOf } from "../shared/source.ts";
import type { StepContext } from "../shared/step.ts";
import { openTable, type Table } from "../shared/transport.ts";
import { buildUrl, sessionName } from "./build.ts";

interface PutAnswer {
  version: Version;
  metadata: Metadata[];
}

/**
 * Puts what `params` say as the key's newest item; once it is stored, what goes wrong is a warning. Throws an Error in
 * the user's words: a StatusError 4 where `expect` is not met, 5 where the value may be stored.
 */
export async function put({ source, params }: OutRequest, context: StepContext): Promise<PutAnswer> {
  const { folder, warn, tell, debug, hideSecret, hideValue, atSignal } = context;
  const { bump, pre, expect, skip_unchanged: skipUnchanged } = params;
  const connection = await connectionOf(source, {
    sessionName: sessionName(process.env),
    webIdentityToken: params.web_identity_token,
    debug,
    warn,
    hideSecret,
  });
  const putBuild = buildUrl(process.env);
  const requireFit = (value: string) => requireItemFits(connection, value, putBuild);
  const answer = (version: Version, previous?: string): PutAnswer => ({
    version: { value: version.value, created: version.created },
    metadata: [
      ...metadataOf(source, version, connection.region),
      ...(putBuild === undefined ? [] : [{ name: "build", value: putBuild }]),
      ...(previous === undefined ? [] : [{ name: "previous", value: previous }]),
    ],
  });
  const table = openTable(connection, { isForPut: true });
  if (params.get_latest) return answer(await latest(table, source, warn));

  const isBump = bump !== undefined || pre !== undefined;
  // What is not needed for a value that is there already is not loaded for it.
  const bumping = isBump ? await import("../shared/bump.ts") : undefined;
  const given = isBump
    ? undefined
    : (params.value ?? (await (await import("./value.ts")).readValue(params, folder)));
  if (given !== undefined) {
    hideValue(given);
    requireFit(given);
    if (given === "") warn("storing an empty value");
  }
  let previous: string | undefined;
  const decide = (newest: Newest | undefined, isEmpty: boolean) => {
    if (skipUnchanged && newest !== undefined && newest.value === given) return undefined;
    const known = newest?.value ?? (isEmpty ? (source.initial_value ?? undefined) : undefined);
    if (expect !== undefined && known !== expect) throw notAsExpected(expect, newest, known);
    if (bumping === undefined) return given;
    if (known === undefined && !isEmpty) {
      throw new Error(
        `params.${bump === undefined ? "pre" : "bump"}: the key has items, but none of them is a version; nothing is stored`,
      );
    }
    previous = known ?? bumping.firstOf({ bump });
    const value = bumping.bumped(previous, { bump, pre });
    hideValue(value);
    requireFit(value);
    return value;
  };
  const mustFollow = isBump || expect !== undefined;
  const { value, created, written } = await putNewest(table, {
    decide,
    needsNewest: mustFollow || skipUnchanged === true,
    mustFollow,
    putBuild,
    warn,
    atSignal,
  });
  if (!written)
    tell(`nothing is stored: the newest version (created ${verbatim(created)}) already has this value`);
  if (source.keep != null && written) {
    await deleteOldest(table, source.keep, created).catch((error: Error) =>
      warn(`the value is stored, but older items could not be deleted: ${error.message}`),
    );
  }
  return answer({ value, created }, previous);
}

/** The newest version at this moment, or the initial one. */
async function latest(table: Table, source: Source, warn: StepContext["warn"]): Promise<Version> {
  const initial =
    source.initial_value == null ? [] : [{ value: source.initial_value, created: HEAD_CREATED }];
  const found = await versionsFor(table, { history: 1 }, warn);
  const [newest] = found ?? initial;
  if (newest) return newest;
  throw new Error(
    `params.get_latest: the key ${JSON.stringify(source.key)} ${found ? "has items, but none of them is a version" : "has no version, and source.initial_value is not set; put a value first, or set it"}`,
  );
}

function notAsExpected(expected: string, newest: Newest | undefined, known: string | undefined): StatusError {
  let found = "the key has no version";
  if (newest !== undefined)
    found = `the newest version is ${shown(newest.value)} (created ${verbatim(newest.created)})`;
  else if (known !== undefined) found = `the key is empty, and source.initial_value is ${shown(known)}`;
  return new StatusError(4, `params.expect: expected ${shown(expected)}, but ${found}; nothing is stored`);
}

function requireItemFits(connection: Connection, value: string, putBuild: string | undefined): void {
  const bytes = itemBytes(connection, { created: HEAD_CREATED, value, putId: crypto.randomUUID(), putBuild });
  if (bytes <= ITEM_BYTES) return;
  throw new Error(`the item with this value ${tooLarge(bytes)}`);
}
