import { HEAD_CREATED } from "../shared/created.ts";
import { type Connection, ITEM_BYTES, itemBytes, openTable, tooLarge } from "../shared/dynamodb.ts";
import { deleteOldest, putNewest } from "../shared/order.ts";
import { connectionOf, type Metadata, metadataOf, type OutRequest, type Version } from "../shared/schema.ts";
import type { Surroundings } from "../shared/step.ts";

const CUT_BYTES = 3 * 1024;

/** Puts the value of `params` as the key's newest item; a warning and no failure is what goes wrong once it is stored. */
export async function put(
  { source, params }: OutRequest,
  { folder, warn, debug, hide }: Surroundings,
): Promise<{ version: Version; metadata: Metadata[] }> {
  const sessionName = sessionNameOf(process.env);
  const connection = connectionOf(source, {
    sessionName,
    webIdentityToken: params.web_identity_token,
    debug,
  });
  const table = openTable(connection);
  // What reads files is not loaded for a value that is there already.
  const value = params.value ?? (await (await import("./value.ts")).readValue(params, folder));
  hide(value);
  const putBuild = buildOf(process.env);
  requireFit(connection, value, putBuild);
  if (value === "") warn("the value is empty");
  if (Buffer.byteLength(value) > CUT_BYTES && /[^\0-\x7f]/.test(value)) {
    warn(
      "Concourse before 8.2.4 fails a put of more than 3 KB with characters outside ASCII, after it is stored",
    );
  }
  const { created, written } = await putNewest(table, value, {
    skipUnchanged: params.skip_unchanged ?? false,
    putBuild,
    warn,
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

/** A name for the session of a role, by pipeline and job, of the characters and the length that STS takes; undefined outside of a job. */
function sessionNameOf({ BUILD_PIPELINE_NAME, BUILD_JOB_NAME }: NodeJS.ProcessEnv): string | undefined {
  if (!BUILD_PIPELINE_NAME || !BUILD_JOB_NAME) return undefined;
  return `${BUILD_PIPELINE_NAME}-${BUILD_JOB_NAME}`.replace(/[^\w+=,.@-]/g, "-").slice(0, 64);
}

/** The URL of the build that runs this step, by the variables that Concourse sets; undefined outside of one. */
function buildOf(env: NodeJS.ProcessEnv): string | undefined {
  const { ATC_EXTERNAL_URL, BUILD_ID, BUILD_TEAM_NAME, BUILD_PIPELINE_NAME, BUILD_JOB_NAME, BUILD_NAME } =
    env;
  if (!ATC_EXTERNAL_URL || !BUILD_ID) return undefined;
  const root = ATC_EXTERNAL_URL.replace(/\/+$/, "");
  const names = [BUILD_TEAM_NAME, BUILD_PIPELINE_NAME, BUILD_JOB_NAME, BUILD_NAME];
  // The page of an instance of a pipeline has its variables in the URL as well; by its id, a build is found without.
  if (!names.every(Boolean) || env.BUILD_PIPELINE_INSTANCE_VARS) return `${root}/builds/${BUILD_ID}`;
  const [team, pipeline, job, build] = names.map((name = "") => encodeURIComponent(name));
  return `${root}/teams/${team}/pipelines/${pipeline}/jobs/${job}/builds/${build}`;
}

function requireFit(connection: Connection, value: string, putBuild: string | undefined): void {
  const bytes = itemBytes(connection, { created: HEAD_CREATED, value, putId: crypto.randomUUID(), putBuild });
  if (bytes <= ITEM_BYTES) return;
  throw new Error(`the item with this value ${tooLarge(bytes)}`);
}
