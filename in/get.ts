import { codeOf } from "../shared/errors.ts";
import { type InRequest, type Metadata, metadataOf, type Version } from "../shared/schema.ts";
import type { Surroundings } from "../shared/step.ts";

/** Writes the value, and the version as JSON, into the destination, which it makes where it is missing. */
export async function get(
  { source, version, params }: InRequest,
  { folder }: Surroundings,
): Promise<{ version: Version; metadata: Metadata[] }> {
  const { value, created } = version;
  await Promise.all([
    write(`${folder}/${params.file ?? "version.txt"}`, `${value}\n`),
    write(`${folder}/version.json`, `${JSON.stringify({ value, created })}\n`),
  ]);
  return { version: { value, created }, metadata: metadataOf(source, version, source.region) };
}

async function write(path: string, text: string): Promise<void> {
  try {
    // Else a link that is there already would have its target written, outside the destination perhaps.
    await Bun.file(path).delete().catch(ignoreMissing);
    await Bun.write(path, text);
  } catch (cause) {
    throw new Error(`${path} cannot be written: ${codeOf(cause)}`, { cause });
  }
}

function ignoreMissing(error: unknown): void {
  if (codeOf(error) !== "ENOENT") throw error;
}
