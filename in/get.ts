import { codeOf } from "../shared/errors.ts";
import { arnRegion, type InRequest, isPlainName, type Version } from "../shared/schema.ts";
import { type Metadata, metadataOf } from "../shared/metadata.ts";
import type { StepContext } from "../shared/step.ts";

/** Writes the value, and the version as JSON, into the destination, which it makes where it is missing. */
export async function get(
  { source, version, params }: InRequest,
  { folder }: StepContext,
): Promise<{ version: Version; metadata: Metadata[] }> {
  const { value, created } = version;
  const whole = { "version.json": `${JSON.stringify({ value, created })}\n` };
  const files = params.unpack
    ? { ...whole, ...unpack(value) }
    : { ...whole, [params.file ?? "version.txt"]: `${await follow(value, params)}\n` };
  await Promise.all(Object.entries(files).map(([name, text]) => write(`${folder}/${name}`, text)));
  return {
    version: { value, created },
    metadata: metadataOf(source, version, source.region ?? arnRegion(source.table_name)),
  };
}

/** The version that follows where a bump is asked for, else the value itself. */
async function follow(value: string, { bump, pre }: InRequest["params"]): Promise<string> {
  if (bump === undefined && pre === undefined) return value;
  const { bumped } = await import("../shared/bump.ts");
  return bumped(value, { bump, pre }, { keepsFinal: true });
}

/** The files, content by name, that a put of a folder has made one value of. */
function unpack(value: string): Record<string, string> {
  try {
    const files: unknown = JSON.parse(value);
    if (isOfFiles(files)) return files;
  } catch {}
  throw new Error(
    "params.unpack: the value was not stored by a put with directory; expected a JSON object of strings by file name",
  );
}

function isOfFiles(files: unknown): files is Record<string, string> {
  if (typeof files !== "object" || files === null || Array.isArray(files)) return false;
  return Object.entries(files).every(
    ([name, text]) => isPlainName(name) && typeof text === "string" && `${name}${text}`.isWellFormed(),
  );
}

async function write(path: string, text: string): Promise<void> {
  try {
    // Else a link that is there already would have its target written, outside the destination perhaps.
    await Bun.file(path).delete().catch(ignoreMissing);
    await Bun.write(path, text);
  } catch (cause) {
    throw new Error(
      `${path} cannot be written: ${codeOf(cause) === "EISDIR" ? "it is a directory" : codeOf(cause)}`,
      { cause },
    );
  }
}

function ignoreMissing(error: unknown): void {
  if (codeOf(error) !== "ENOENT") throw error;
}
