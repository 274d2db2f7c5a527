import * as v from "valibot";

const MOST_SHOWN = 100;

/** A string. */
export const text = v.string(mustBe("a quoted string"));
/** A string that is not empty. */
export const filled = v.pipe(text, v.minLength(1, "must not be empty"));
/** A path. */
export const path = v.pipe(filled, v.excludes("\0", "must not contain a NUL character"));
/** A string that Concourse and DynamoDB can hold. */
export const storable = v.pipe(
  text,
  v.check((given) => given.isWellFormed(), "contains half of a surrogate pair, which UTF-8 cannot encode"),
  v.check((given) => !given.includes("\0"), "contains a NUL character, which Concourse cannot store"),
);
const secretText = v.pipe(
  text,
  v.regex(
    /^[!-~]+$/,
    "must not be empty or contain white space or non-ASCII characters (a newline at its end?)",
  ),
);

const QUOTED = "a quoted string (YAML reads 1.10 as 1.1 and yes as true)";
/** A value: a string, or a whole number that JSON holds exactly. */
export const value = v.union(
  [storable, v.pipe(v.number(), v.safeInteger(mustBe(QUOTED)), v.transform(String))],
  mustBe(QUOTED),
);

const AT_LEAST_ONE = "a whole number of at least 1";
const notCounting = ({ input }: { input: unknown }) =>
  `must be ${AT_LEAST_ONE}, got ${String(input).slice(0, MOST_SHOWN)}`;
/** A whole number of at least 1, as a number or its text. */
export const count = v.union(
  [
    v.pipe(v.number(), v.safeInteger(notCounting), v.minValue(1, notCounting)),
    v.pipe(v.string(), v.regex(/^[1-9]\d{0,14}$/), v.transform(Number)),
  ],
  mustBeQuotable(AT_LEAST_ONE),
);

/** A boolean, or its text. */
export const flag = v.union(
  [
    v.boolean(),
    v.pipe(
      v.picklist(["true", "false"]),
      v.transform((given) => given === "true"),
    ),
  ],
  mustBeQuotable("true or false"),
);

/** Whether a field must not be shown on stderr. */
export function isSecret(field: v.GenericSchema): boolean {
  return v.getMetadata(field).secret === true;
}

/** A field that must be given. */
export function required<Schema extends v.GenericSchema>(schema: Schema, description: string) {
  return v.pipe(schema, v.description(description));
}

/** A field that may be left out or null. */
export function optional<Schema extends v.GenericSchema>(schema: Schema, description: string) {
  return v.pipe(v.nullish(schema), v.description(description));
}

/** A field that may be left out, and is never shown on stderr. */
export function secret(description: string) {
  return v.pipe(v.nullish(secretText), v.description(description), v.metadata({ secret: true }));
}

/** Words a mistake in the type of a field. */
export function mustBe(what: string) {
  return ({ input }: { input: unknown }): string =>
    input === undefined ? "is required" : `must be ${what}, got ${kindOf(input)}`;
}

/** Words a mistake in a field whose number or boolean may be quoted: a string is shown, since its type is not what is wrong. */
function mustBeQuotable(what: string) {
  return ({ input }: { input: unknown }): string =>
    typeof input === "string"
      ? `must be ${what}, got ${JSON.stringify(input.slice(0, MOST_SHOWN))}`
      : mustBe(what)({ input });
}

/** Words a mistake in the form of a field; shows the value, so that it is for fields that are no secret. */
export function isNot(what: string) {
  return ({ input }: { input: unknown }): string =>
    typeof input === "string"
      ? `${JSON.stringify(input.slice(0, MOST_SHOWN))} is not ${what}`
      : mustBe(what)({ input });
}

/** JSON's name for the type of a value. */
export function kindOf(given: unknown): string {
  if (given === null) return "null";
  if (Array.isArray(given)) return "an array";
  return typeof given === "object" ? "an object" : `a ${typeof given}`;
}
