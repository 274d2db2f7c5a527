/** Writes the JSON Schemas with which editors check a pipeline: `bun run schemas [--folder dist/schemas]`. */
import { parseArgs } from "node:util";
import { toJsonSchema } from "@valibot/to-json-schema";
import { InRequest, OutRequest, Source } from "../shared/schema.ts";

const SCHEMAS = {
  source: Source,
  get: InRequest.entries.params.wrapped,
  put: OutRequest.entries.params.wrapped,
};

/** The JSON Schema of `source`, or of the params of a get or a put, as a pipeline gives them. */
export function jsonSchemaOf(part: keyof typeof SCHEMAS): Record<string, unknown> {
  const ignoreActions = ["check", "partial_check", "transform", "max_bytes", "safe_integer"];
  const schema = toJsonSchema(SCHEMAS[part], { typeMode: "input", errorMode: "ignore", ignoreActions });
  return { ...schema, title: `dynamo-keyval-resource: ${part}`, additionalProperties: false };
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { folder: { type: "string", default: "dist/schemas" } } });
  for (const part of ["source", "get", "put"] as const) {
    await Bun.write(
      `${values.folder}/${part}.schema.json`,
      `${JSON.stringify(jsonSchemaOf(part), null, 2)}\n`,
    );
  }
}
