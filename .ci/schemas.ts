/** Writes the JSON Schemas with which editors check a pipeline: `bun run schemas [--folder dist/schemas]`. */
import { parseArgs } from "node:util";
import { toJsonSchema } from "@valibot/to-json-schema";
import { InRequest, OutRequest, Source } from "../shared/schema.ts";

const SCHEMAS = {
  source: Source,
  get: InRequest.entries.params.wrapped,
  put: OutRequest.entries.params.wrapped,
};

type Schema = Record<string, unknown>;

const VAR = "\\(\\([^)]+\\)\\)";
const TYPES = ["dynamo-keyval", "dynamo-keyval-resource"];

/** What the schemas' checks in TypeScript refuse and JSON Schema can as well. */
const PATTERNS: Record<string, string> = {
  "source.endpoint": "^https?://[^?#@\\s]+$",
  "get.file": "^(?!\\.{1,2}$)(?!version\\.json$)[^/]+$",
};
const not = (...fields: string[]) => ({ not: { anyOf: fields.map((field) => ({ required: [field] })) } });
const NO_PRE = { properties: { bump: { not: { enum: ["final", "number"] } } } };
const RULES: Record<keyof typeof SCHEMAS, Schema> = {
  source: {
    dependencies: {
      access_key: ["secret_key"],
      secret_key: ["access_key"],
      session_token: ["access_key"],
    },
  },
  get: { dependencies: { unpack: not("file", "bump", "pre"), pre: NO_PRE } },
  put: {
    dependencies: {
      file: not("value", "directory", "bump", "pre"),
      value: not("directory", "bump", "pre"),
      directory: not("bump", "pre"),
      skip_unchanged: not("bump", "pre"),
      get_latest: not("file", "value", "directory", "bump", "pre", "expect", "skip_unchanged"),
      pre: NO_PRE,
    },
  },
};

/** Params of a put that no other resource type has, by which a step is known: a schema cannot look up a resource's type. */
const OWN_PARAMS = ["skip_unchanged", "get_latest", "expect", "web_identity_token"];

/** The JSON Schema of `source`, or of the params of a get or a put, as a pipeline gives them. */
export function jsonSchemaOf(part: keyof typeof SCHEMAS): Schema & { properties: Record<string, Schema> } {
  const ignoreActions = ["check", "partial_check", "transform", "max_bytes", "safe_integer"];
  const schema = toJsonSchema(SCHEMAS[part], { typeMode: "input", errorMode: "ignore", ignoreActions });
  const fields = Object.entries((schema.properties ?? {}) as Record<string, Schema>);
  const properties = Object.fromEntries(
    fields.map(([name, field]) => {
      const pattern = PATTERNS[`${part}.${name}`];
      return [name, withVars({ ...field, ...(pattern && { allOf: [{ type: "string", pattern }] }) })];
    }),
  );
  return {
    ...schema,
    ...RULES[part],
    type: ["object", "string"],
    pattern: `^${VAR}$`,
    title: `dynamo-keyval-resource: ${part}`,
    properties,
    additionalProperties: false,
  };
}

/** One schema in place of alternatives, so that a mistake is one error, which takes `((var))` for anything as well. */
function withVars(field: Schema): Schema {
  const parts = flatten(field);
  const types = parts.flatMap(({ type }) =>
    type === "number" ? ["integer"] : typeof type === "string" ? [type] : [],
  );
  const { enum: values, secret: _, ...merged } = Object.assign({}, ...parts) as Schema & { enum?: string[] };
  const own = values === undefined ? merged.pattern : `^(${values.join("|")})$`;
  const pattern = typeof own === "string" ? `${VAR}|${own}` : types.includes("string") ? undefined : VAR;
  return {
    ...merged,
    type: [...new Set([...types, "string"])],
    ...(pattern !== undefined && { pattern }),
    ...(merged.items !== undefined && { items: withVars(merged.items as Schema) }),
  };
}

function flatten({ anyOf = [], allOf = [], ...schema }: Schema): Schema[] {
  const inner = [...(anyOf as Schema[]), ...(allOf as Schema[])].flatMap(flatten);
  return [
    ...inner.filter(({ type }) => type !== "array"),
    ...inner.filter(({ type }) => type === "array"),
    schema,
  ];
}

/**
 * The JSON Schema of a whole pipeline: `source` is checked of resources whose type has a conventional name, `params` of
 * puts that have one of this type's own, wherever they are nested; all else passes.
 */
export function pipelineSchema(): Schema {
  // A resource type's `defaults` may give what a source leaves out.
  const { required: _, ...source } = jsonSchemaOf("source");
  const step = { $ref: "#/definitions/step" };
  const steps = { type: "array", items: step };
  const nested = ["try", "ensure", "on_success", "on_failure", "on_error", "on_abort"];
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "dynamo-keyval-resource: pipeline",
    type: "object",
    properties: {
      resources: {
        type: "array",
        items: when({ properties: { type: { enum: TYPES } }, required: ["type"] }, { source }),
      },
      jobs: { type: "array", items: { properties: { plan: steps } } },
    },
    definitions: {
      step: {
        ...when(
          {
            required: ["put", "params"],
            properties: {
              params: { type: "object", anyOf: OWN_PARAMS.map((name) => ({ required: [name] })) },
            },
          },
          { params: jsonSchemaOf("put") },
        ),
        properties: {
          do: steps,
          in_parallel: { if: { type: "array" }, ...thenElse(steps, { properties: { steps } }) },
          ...Object.fromEntries(nested.map((name) => [name, step])),
        },
      },
    },
  };
}

function when(condition: Schema, properties: Schema): Schema {
  return { if: condition, ...thenElse({ properties }) };
}

function thenElse(yes: Schema, no?: Schema): Schema {
  // oxlint-disable-next-line unicorn/no-thenable
  return { then: yes, ...(no && { else: no }) };
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { folder: { type: "string", default: "dist/schemas" } } });
  const write = (name: string, schema: Schema) =>
    Bun.write(`${values.folder}/${name}.schema.json`, `${JSON.stringify(schema, null, 2)}\n`);
  for (const part of ["source", "get", "put"] as const) {
    await write(part, jsonSchemaOf(part));
  }
  await write("pipeline", pipelineSchema());
}
