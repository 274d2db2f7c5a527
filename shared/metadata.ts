import type { Source, Version } from "./schema.ts";

const SHOWN_BYTES = 1024;

/** A name (one word) and a value that Concourse shows beside a version. */
export interface Metadata {
  name: string;
  value: string;
}

/**
 * What Concourse shows beside a version, each a word and a text. A value over 1 KB is not in it: a cut one would be
 * taken for the whole; its first KB is the `preview`.
 */
export function metadataOf(
  { table_name, key }: Source,
  version: Version,
  region?: string | null,
): Metadata[] {
  const bytes = new TextEncoder().encode(version.value);
  // As a stream, the decoder keeps to itself a character that the cut has halved.
  const start = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(0, SHOWN_BYTES), {
    stream: true,
  });
  return [
    { name: "key", value: key },
    bytes.length > SHOWN_BYTES ? { name: "preview", value: start } : { name: "value", value: version.value },
    { name: "created", value: version.created },
    { name: "size", value: String(bytes.length) },
    { name: "table", value: table_name },
    ...(region ? [{ name: "region", value: region }] : []),
  ];
}
