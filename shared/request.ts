import * as v from "valibot";
import type { RequestSchema } from "./schema.ts";

/** The fields of `source` and, where a request has them, of `params`, by name. */
export function fieldsOf(schema: RequestSchema): Record<string, v.ObjectEntries> {
  const { entries } = schema;
  return {
    source: entries.source.entries,
    ...("params" in entries && { params: entries.params.wrapped.entries }),
  };
}

/** The request in a parsed JSON document; throws an AggregateError of every mistake in it, by path and with none of its values. */
export function parseRequest<Schema extends RequestSchema>(
  schema: Schema,
  document: unknown,
): v.InferOutput<Schema> {
  if (Array.isArray(document)) throw new Error("request: is a list; a JSON object is needed");
  const parsed = v.safeParse(schema, document);
  const mistakes = (parsed.issues ?? []).map(
    (issue) => `${v.getDotPath(issue) ?? "request"}: ${issue.message}`,
  );
  for (const [part, fields] of Object.entries(fieldsOf(schema))) {
    mistakes.push(...unknownFields(part, Object(document)[part], Object.keys(fields)));
  }
  if (!parsed.success || mistakes.length > 0) {
    throw new AggregateError(mistakes.map((mistake) => new Error(mistake)));
  }
  return parsed.output;
}

/** valibot takes a list for an object, and stops at the first unknown field or does not see it. */
function unknownFields(part: string, given: unknown, known: string[]): string[] {
  if (typeof given !== "object" || given === null) return [];
  if (Array.isArray(given)) return [`${part}: is a list; an object is needed`];
  return Object.keys(given)
    .filter((name) => !known.includes(name))
    .map(
      (name) =>
        `${part}.${oneWord(name)}: ${misplaced(part, name) ?? `is unknown; the nearest known field is ${nearest(name, known)}`}`,
    );
}

function misplaced(part: string, name: string): string | undefined {
  if (part !== "source" || name !== "web_identity_token") return undefined;
  return "belongs in the params of a put: each token is a new text, and a source with a new text has a new history";
}

function oneWord(name: string): string {
  return /^[\w-]{1,100}$/.test(name) ? name : JSON.stringify(name.slice(0, 100));
}

function nearest(name: string, known: string[]): string {
  const given = name.slice(0, 100).toLowerCase();
  const distanceTo = (field: string) => editDistance(given, field) / Math.max(given.length, field.length);
  return known.reduce((best, field) => (distanceTo(field) < distanceTo(best) ? field : best));
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
