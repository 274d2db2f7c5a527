import { HEAD_CREATED } from "../shared/created.ts";
import type { Connection } from "../shared/connection.ts";
import { ITEM_BYTES, itemBytes, tooLarge } from "../shared/dynamodb.ts";
import { deleteOldest, putNewest } from "../shared/order.ts";
import type { OutRequest, Version } from "../shared/schema.ts";
import { connectionOf, type Metadata, metadataOf } from "../shared/source.ts";
import type { StepContext } from "../shared/step.ts";
import { openTable } from "../shared/transport.ts";
import { buildUrl, sessionName } from "./build.ts";

/** Puts the value of `params` as the key's newest item; a warning and no failure is what goes wrong once it is stored. */
export async function put(
  { source, params }: OutRequest,
  { folder, warn, debug, hide, atSignal }: StepContext,
): Promise<{ version: Version; metadata: Metadata[] }> {
  const connection = connectionOf(source, {
    sessionName: sessionName(process.env),
    webIdentityToken: params.web_identity_token,
    debug,
    warn,
  });
  const table = openTable(connection, { isForPut: true });
  // What reads files is not loaded for a value that is there already.
  const value = params.value ?? (await (await import("./value.ts")).readValue(params, folder));
  hide(value);
  const putBuild = buildUrl(process.env);
  requireFit(connection, value, putBuild);
  if (value === "") warn("the value is empty");
  const { created, written } = await putNewest(table, {
    decide: (newest) => (params.skip_unchanged && newest?.value === value ? undefined : value),
    needsNewest: params.skip_unchanged ?? false,
    mustFollow: false,
    putBuild,
    warn,
    atSignal,
  });
  if (source.keep != null && written) {
    await deleteOldest(table, source.keep, created).catch((error: Error) =>
      warn(`the value is stored, but older items could not be deleted: ${error.message}`),
    );
  }
  const metadata = metadataOf(source, { value, created }, connection.region);
  if (putBuild !== undefined) metadata.push({ name: "build", value: putBuild });
  return { version: { value, created }, metadata };
}

function requireFit(connection: Connection, value: string, putBuild: string | undefined): void {
  const bytes = itemBytes(connection, { created: HEAD_CREATED, value, putId: crypto.randomUUID(), putBuild });
  if (bytes <= ITEM_BYTES) return;
  throw new Error(`the item with this value ${tooLarge(bytes)}`);
}
