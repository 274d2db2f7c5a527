import * as v from "valibot";
import { isSecret } from "./fields.ts";
import { CheckRequest, InRequest, OutRequest, type RequestSchema } from "./schema.ts";

/** What other resources and tools call a field of `source`. */
const OTHER_NAMES: Record<string, string> = {
  aws_access_key_id: "access_key",
  access_key_id: "access_key",
  aws_secret_access_key: "secret_key",
  secret_access_key: "secret_key",
  secret: "secret_key",
  hash_key: "partition_key",
  initial_version: "initial_value",
  role: "role_arn",
  aws_session_token: "session_token",
  aws_region: "region",
  region_name: "region",
  table: "table_name",
};

/** How much of a name may differ from a field's for the field to be what was meant: more in a short name, where one swap is half of it. */
const MOST_DIFFERENT = { short: 0.5, long: 0.34 };
const SHORT = 5;

/** The fields of `source` and, where a request has them, of `params`, by name. */
export function fieldsOf(schema: RequestSchema): Record<string, v.ObjectEntries> {
  const { entries } = schema;
  return {
    source: entries.source.entries,
    ...("params" in entries && { params: entries.params.wrapped.entries }),
  };
}

/** The strings of a document that no line on stderr may show: its fields that are secret. */
export function secretsOf(document: unknown): string[] {
  return Object.entries(fieldsOf(OutRequest)).flatMap(([part, fields]) =>
    Object.entries(fields)
      .filter(([, field]) => isSecret(field))
      .map(([name]) => Object(Object(document)[part])[name])
      .filter((given) => typeof given === "string"),
  );
}

/**
 * The request in a parsed JSON document; throws an AggregateError of every mistake in it, by path. `warn` is told of a
 * part of the request that is nearly `source`, `version` or `params`.
 */
export function parseRequest<Schema extends RequestSchema>(
  schema: Schema,
  document: unknown,
  warn: (message: string) => void,
): v.InferOutput<Schema> {
  if (Array.isArray(document)) throw new Error("the request must be a JSON object, got an array");
  const parsed = v.safeParse(schema, document);
  const { version, params } = Object(document);
  const mistakes = (parsed.issues ?? [])
    .map((issue) => ({
      path: (v.getDotPath(issue) ?? "the request").replace(/\.(\d+)(?=\.|$)/g, "[$1]"),
      message: issue.message,
    }))
    // valibot takes an array for an object.
    .filter(({ path }) => !(Array.isArray(version) && path.startsWith("version.")))
    .map(({ path, message }) => worded(path, message));
  if (Array.isArray(version)) {
    mistakes.push("version: must be an object, got an array; pass its last element (jq '.[-1]')");
  }
  for (const [part, fields] of Object.entries(fieldsOf(schema))) {
    mistakes.push(...unknownFields(schema, part, Object(document)[part], Object.keys(fields)));
  }
  if (schema === CheckRequest && Object(params).web_identity_token !== undefined) {
    mistakes.push("params.web_identity_token belongs to put steps, not to checks");
  }
  for (const name of Object.keys(Object(document))) {
    const meant = nearest(name, ["source", "version", "params"]);
    if (meant !== undefined && meant !== name) {
      warn(`unknown request field ${JSON.stringify(name)} ignored; did you mean ${JSON.stringify(meant)}?`);
    }
  }
  if (!parsed.success || mistakes.length > 0) {
    throw new AggregateError([...new Set(mistakes)].map((mistake) => new Error(mistake)));
  }
  return parsed.output;
}

/** "source.endpoint must start with …", but "params: only one of …". */
function worded(path: string, message: string): string {
  return `${path}${/^(must|is|requires|contains|contradicts|cannot) /.test(message) ? "" : ":"} ${message}`;
}

/** valibot stops at the first unknown field or does not see it. */
function unknownFields(schema: RequestSchema, part: string, given: unknown, known: string[]): string[] {
  if (typeof given !== "object" || given === null) return [];
  if (Array.isArray(given)) return [`${part} must be an object, got an array`];
  return Object.keys(given)
    .filter((name) => !known.includes(name))
    .map((name) => `${part}.${oneWord(name)} ${misplaced(schema, part, name) ?? unknown(name, known)}`);
}

function unknown(name: string, known: string[]): string {
  const meant = OTHER_NAMES[name.toLowerCase()];
  const field = meant !== undefined && known.includes(meant) ? meant : nearest(name, known);
  return field === undefined
    ? `is not a field; the fields are ${known.join(", ")}`
    : `is not a field; did you mean ${field}?`;
}

function misplaced(schema: RequestSchema, part: string, name: string): string | undefined {
  if (part === "source" && name === "web_identity_token") {
    return "belongs in the params of a put: each token is new, and Concourse treats a changed source as a new resource";
  }
  if (part === "source" && /^(sort|range)_key$/.test(name)) {
    return `is not a field; the sort key is always "created"`;
  }
  if (part !== "params") return undefined;
  const [own, other] = schema === InRequest ? ["get", "put"] : ["put", "get"];
  const isOther = Object.hasOwn(fieldsOf(schema === InRequest ? OutRequest : InRequest).params ?? {}, name);
  return isOther ? `belongs to ${other} steps, not ${own} steps` : undefined;
}

function oneWord(name: string): string {
  return /^[\w-]{1,100}$/.test(name) ? name : JSON.stringify(name.slice(0, 100));
}

/** The one of some names that was meant by another; undefined where none is near. */
function nearest(name: string, known: string[]): string | undefined {
  const given = name.slice(0, 100).toLowerCase();
  const distanceTo = (field: string) => editDistance(given, field) / Math.max(given.length, field.length);
  const field = known.reduce((best, one) => (distanceTo(one) < distanceTo(best) ? one : best));
  const isShort = Math.max(given.length, field.length) <= SHORT;
  return distanceTo(field) <= MOST_DIFFERENT[isShort ? "short" : "long"] ? field : undefined;
}

/** How many characters to insert, delete or replace to make one word of the other (Levenshtein). */
function editDistance(from: string, to: string): number {
  let distances = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let index = 0; index < from.length; index++) {
    const next = [index + 1];
    for (let column = 1; column <= to.length; column++) {
      const replaced = distances[column - 1]! + Number(to[column - 1] !== from[index]);
      next.push(Math.min(replaced, distances[column]! + 1, next[column - 1]! + 1));
    }
    distances = next;
  }
  return distances.at(-1)!;
}
