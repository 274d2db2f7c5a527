import { type Dirent, constants } from "node:fs";
import { lstat, open, readdir, realpath } from "node:fs/promises";
import { HEAD_CREATED } from "../shared/created.ts";
import { type Connection, itemBytes, openTable } from "../shared/dynamodb.ts";
import { codeOf } from "../shared/errors.ts";
import { deleteOldest, putNewest } from "../shared/order.ts";
import { connectionOf, type Metadata, metadataOf, type OutRequest, type Version } from "../shared/schema.ts";
import type { Surroundings } from "../shared/step.ts";

const ITEM_BYTES = 409_600;
const CUT_BYTES = 3 * 1024;
const DEFAULT_FILE = "version.txt";
const MOST_LISTED = 20;

/** A file beyond this size is refused unread. */
const MOST_READ_BYTES = 16 * 1024 * 1024;

/** Puts the value of `params` as the key's newest item; a warning and no failure is what goes wrong once it is stored. */
export async function put(
  { source, params }: OutRequest,
  { folder, warn, hide }: Surroundings,
): Promise<{ version: Version; metadata: Metadata[] }> {
  const connection = connectionOf(source);
  const value = params.value ?? (await readValue(folder, params.file ?? (await findDefaultFile(folder))));
  hide(value);
  const putBuild = buildOf(process.env);
  requireFit(connection, value, putBuild);
  if (value === "") warn("the value is empty");
  if (Buffer.byteLength(value) > CUT_BYTES && /[^\0-\x7f]/.test(value)) {
    warn(
      "Concourse before 8.2.4 fails a put of more than 3 KB with characters outside ASCII, after it is stored",
    );
  }
  const table = openTable(connection);
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

/** The URL of the build that runs this step, by the variables that Concourse sets; undefined outside of one. */
function buildOf(env: NodeJS.ProcessEnv): string | undefined {
  const { ATC_EXTERNAL_URL, BUILD_ID, BUILD_TEAM_NAME, BUILD_PIPELINE_NAME, BUILD_JOB_NAME, BUILD_NAME } =
    env;
  if (!ATC_EXTERNAL_URL || !BUILD_ID) return undefined;
  const root = ATC_EXTERNAL_URL.replace(/\/+$/, "");
  if (!BUILD_TEAM_NAME || !BUILD_PIPELINE_NAME || !BUILD_JOB_NAME || !BUILD_NAME)
    return `${root}/builds/${BUILD_ID}`;
  const [team, pipeline, job, build] = [BUILD_TEAM_NAME, BUILD_PIPELINE_NAME, BUILD_JOB_NAME, BUILD_NAME].map(
    encodeURIComponent,
  );
  return `${root}/teams/${team}/pipelines/${pipeline}/jobs/${job}/builds/${build}`;
}

function requireFit(connection: Connection, value: string, putBuild: string | undefined): void {
  const bytes = itemBytes(connection, { created: HEAD_CREATED, value, putId: crypto.randomUUID(), putBuild });
  if (bytes <= ITEM_BYTES) return;
  throw new Error(`the item with this value ${tooLarge(bytes)}`);
}

function tooLarge(bytes: number): string {
  return `is too large: ${bytes} bytes, ${bytes - ITEM_BYTES} more than the ${ITEM_BYTES} of a DynamoDB item`;
}

/** The text of a file that really is in the sources directory, without a byte-order mark and one final newline. */
async function readValue(sources: string, file: string): Promise<string> {
  const refuse = (reason: string, cause?: unknown) =>
    new Error(`params.file: ${JSON.stringify(file)} ${reason}`, { cause });
  if (file.startsWith("/") || file.split("/").includes("..")) {
    throw refuse("leads outside the sources directory; a path such as artifacts/version.txt is needed");
  }
  let bytes;
  try {
    const root = await realpath(sources);
    const path = await realpath(`${root}/${file}`);
    if (path !== root && !path.startsWith(root === "/" ? root : `${root}/`))
      throw refuse("is a link that leads outside the sources directory");
    await using handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stat = await handle.stat();
    if (!stat.isFile())
      throw refuse(stat.isDirectory() ? "is a folder; name a file in it" : "is no regular file");
    if (stat.size > MOST_READ_BYTES) throw refuse(tooLarge(stat.size));
    bytes = await handle.readFile();
  } catch (error) {
    const code = codeOf(error);
    if (code === undefined) throw error;
    throw code === "ENOENT"
      ? refuse(`does not exist; ${await describeInputs(sources)}`, error)
      : refuse(`cannot be read: ${code}`, error);
  }
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw refuse("is not UTF-8 text", cause);
  }
  if (text.includes("\0")) throw refuse("has a NUL character in it, which Concourse cannot store");
  return text.replace(/\r?\n$/, "");
}

/** The one version.txt right in the sources directory or in a folder of it, which is what an input is. */
async function findDefaultFile(sources: string): Promise<string> {
  const entries = await list(sources);
  const files = [];
  for (const candidate of [DEFAULT_FILE, ...entries.map(({ name }) => `${name}/${DEFAULT_FILE}`)]) {
    const stat = await lstat(`${sources}/${candidate}`).catch(() => undefined);
    if (stat !== undefined && !stat.isDirectory()) files.push(candidate);
  }
  const [file] = files;
  if (file !== undefined && files.length === 1) return file;
  const found =
    files.length > 1 ? `more than one is there (${shorten(files)})` : await describeInputs(sources);
  throw new Error(
    `params: neither file nor value is given, and no single ${DEFAULT_FILE} is in an input: ${found}`,
  );
}

async function list(sources: string): Promise<Dirent[]> {
  try {
    return await readdir(sources, { withFileTypes: true });
  } catch (cause) {
    throw new Error(`the sources directory ${JSON.stringify(sources)} cannot be read: ${codeOf(cause)}`, {
      cause,
    });
  }
}

async function describeInputs(sources: string): Promise<string> {
  const names = (await list(sources)).map(({ name }) => name);
  return names.length === 0
    ? "the put step has no inputs; name them in its inputs, such as inputs: [artifacts]"
    : `the put step has these inputs: ${shorten(names)} (inputs: detect mounts only what params name)`;
}

function shorten(names: string[]): string {
  const shown = names
    .toSorted()
    .slice(0, MOST_LISTED)
    .map((name) => (/^[\w./-]+$/.test(name) ? name : JSON.stringify(name)));
  return names.length > MOST_LISTED
    ? `${shown.join(", ")} and ${names.length - MOST_LISTED} more`
    : shown.join(", ");
}
