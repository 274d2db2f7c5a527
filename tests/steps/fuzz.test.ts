import { afterAll, describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import * as fc from "fast-check";
import { parseRequest } from "../../shared/request.ts";
import { CheckRequest, InRequest, OutRequest, type RequestSchema } from "../../shared/schema.ts";
import { dist, type Outcome, type StepName } from "../support/step.ts";

type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

const STEPS: StepName[] = ["check", "in", "out"];
const MARKER = "marker-of-a-secret";

/** What may stand in a message: a field that is not secret is quoted where it is wrong. */
const SHOWN = "text-of-a-field";
/** Nothing listens there. */
const CLOSED = "http://127.0.0.1:1";
const REGION = "us-east-1";
/** Stands for a number that JavaScript cannot hold, as long as a document is no text yet. */
const HUGE = "<huge>";

/** What a mistake of the program's own looks like when it is told to a person. */
const JUNK = /\[object |\b(undefined|NaN|TypeError|RangeError|ReferenceError|Maximum call stack)\b|^\s+at /;

const folder = await mkdtemp(`${tmpdir()}/fuzz-`);
afterAll(() => rm(folder, { recursive: true }));

const secret = fc.constantFrom(MARKER, `${MARKER}/+=`, `${MARKER} `, `${MARKER}\n`, `é${MARKER}`);

const source = fc.record(
  {
    table_name: fc.constantFrom("packages-table", "arn:aws:dynamodb:us-east-1:123456789012:table/packages"),
    partition_key: fc.constantFrom("application", "my key", "__proto__"),
    key: fc.constantFrom("my-app", "é🔑", "a\nb"),
    region: fc.constant(REGION),
    access_key: fc.constant(`${MARKER}-access`),
    secret_key: fc.oneof({ weight: 3, arbitrary: fc.constant(MARKER) }, secret),
    session_token: fc.oneof({ weight: 3, arbitrary: fc.constant(MARKER) }, secret),
    profile: fc.constant("default"),
    role_arn: fc.constantFrom<Json[]>("arn:aws:iam::123456789012:role/ci", [
      "arn:aws:iam::123456789012:role/ci",
    ]),
    external_id: fc.constant("external"),
    role_session_name: fc.constant("session"),
    endpoint: fc.constant(CLOSED),
    debug: fc.constantFrom<Json[]>(true, "true", false),
    initial_value: fc.constantFrom<Json[]>(MARKER, 5, ""),
    history: fc.constantFrom<Json[]>(3, "3"),
    ca_certs: fc.constantFrom<Json[]>([], [MARKER]),
    keep: fc.constantFrom<Json[]>(1, "1"),
  },
  { requiredKeys: ["table_name", "partition_key", "key"] },
);

const version = fc.constantFrom<Json[]>(
  { value: MARKER, created: "2026-11-23T15:04:05.123Z" },
  { value: `${MARKER}\n\u001b[31m`, created: "12/12/2023 18:02:04" },
);

const valid: Record<StepName, fc.Arbitrary<Json>> = {
  check: fc.record({ source, version: fc.oneof(version, fc.constant(null)) }, { requiredKeys: ["source"] }),
  in: fc.record(
    {
      source,
      version,
      params: fc.record(
        { file: fc.constantFrom("value", "…"), unpack: fc.constantFrom<Json[]>(true, "false") },
        { requiredKeys: [] },
      ),
    },
    { requiredKeys: ["source", "version"] },
  ),
  out: fc.record(
    {
      source,
      params: fc.constantFrom<Json[]>(
        {},
        { file: "artifacts/version.txt" },
        { file: "nothing", skip_unchanged: true },
        { directory: "artifacts" },
        { value: MARKER, skip_unchanged: "false" },
        { value: 42, web_identity_token: MARKER },
      ),
    },
    { requiredKeys: ["source"] },
  ),
};

const ODD_NAMES = [
  "__proto__",
  "constructor",
  "prototype",
  "toString",
  "hasOwnProperty",
  "toJSON",
  "length",
  "0",
  "",
  "source",
  "params",
  "version",
  "value",
  "created",
  "file",
  "secret_key",
  "Secret_Key",
  "secret key",
  "a\nb",
  "a\0b",
  "\u001b[31m",
  "\u0085",
  "\u2028",
  "\ud83d",
  "🔑",
  "%s",
  "/",
  "..",
  "x".repeat(5000),
];
const ODD_TEXTS = [
  "",
  " ",
  "\0",
  "a\nb",
  "\u001b[31m",
  "\ud83d",
  "a\udc00b",
  "🔑",
  "\u2028",
  "é".repeat(2000),
  "x".repeat(300),
  "__proto__",
  "../escaped",
  "../../escaped",
  "/",
  ".",
  "..",
  "a\0b",
  "true",
  "1e999",
  SHOWN,
  `${SHOWN}\n`,
  `http://me:${SHOWN}@localhost`,
  `-----BEGIN CERTIFICATE-----\n${SHOWN}`,
];
const oddName = fc.oneof(fc.constantFrom(...ODD_NAMES), fc.string({ unit: "binary", maxLength: 20 }));
const oddText = fc.oneof(fc.constantFrom(...ODD_TEXTS), fc.string({ unit: "binary", maxLength: 40 }));
const oddValue: fc.Arbitrary<Json> = fc.oneof(
  oddText,
  fc.constantFrom<Json[]>(null, true, false, 0, -1, 1.5, 1e21, 2 ** 53, HUGE, [], [[]], {}, { length: 1 }),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.tuple(oddName, oddText).map(([name, value]) => Object.fromEntries([[name, value]])),
  fc.nat(200).map((depth) => nested(depth)),
  fc.jsonValue({ maxDepth: 2 }).map((value) => value as Json),
);

interface Change {
  where: number;
  how: "drop" | "rename" | "retype" | "nest" | "list" | "add";
  name: string;
  value: Json;
}

const changes: fc.Arbitrary<Change[]> = fc.array(
  fc.record({
    where: fc.nat(),
    how: fc.constantFrom("drop", "rename", "retype", "nest", "list", "add"),
    name: oddName,
    value: oddValue,
  }),
  { maxLength: 4 },
);

/** Documents for a step, most of them nearly right. */
const documentFor = (step: StepName): fc.Arbitrary<Json> =>
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.tuple(valid[step], changes).map(([request, list]) => list.reduce(changed, request)),
    },
    { weight: 1, arbitrary: oddValue },
    { weight: 1, arbitrary: fc.dictionary(oddName, oddValue, { maxKeys: 4 }) },
  );

function nested(depth: number): Json {
  let value: Json = SHOWN;
  for (let level = 0; level < depth; level++) value = level % 2 === 0 ? [value] : { a: value };
  return value;
}

/** Every place in a document, by the names that lead there. */
function placesIn(value: Json, path: string[] = []): string[][] {
  if (typeof value !== "object" || value === null) return [path];
  return [path, ...Object.entries(value).flatMap(([name, inner]) => placesIn(inner, [...path, name]))];
}

function changed(document: Json, change: Change): Json {
  const places = placesIn(document);
  const path = places[change.where % places.length] ?? [];
  // One level more, so that the document as a whole is a place like any other.
  const { document: result = null } = changedAt({ document }, ["document", ...path], change) as {
    document?: Json;
  };
  return result;
}

// Object.fromEntries makes a field of every name, where an assignment to __proto__ would not.
function changedAt(value: Json, [name, ...rest]: string[], change: Change): Json {
  const entries = Object.entries(Object(value) as Record<string, Json>).flatMap(([own, inner]) => {
    if (own !== name) return [[own, inner] as const];
    return rest.length > 0
      ? [[own, changedAt(inner, rest, change)] as const]
      : afterChange(own, inner, change);
  });
  return Array.isArray(value) ? entries.map(([, inner]) => inner) : Object.fromEntries(entries);
}

function afterChange(own: string, inner: Json, { how, name, value }: Change): (readonly [string, Json])[] {
  if (how === "drop") return [];
  if (how === "rename") return [[name, inner]];
  if (how === "retype") return [[own, value]];
  if (how === "nest") return [[own, Object.fromEntries([[name, inner]])]];
  if (how === "list") return [[own, [inner]]];
  return [
    [own, inner],
    [name, value],
  ];
}

const textOf = (document: Json): string => JSON.stringify(document).replaceAll(`"${HUGE}"`, "1e999");

/** A document that leads nobody away from this machine, wherever its source led before. */
function closed(document: Json): Json {
  if (typeof document !== "object" || document === null || Array.isArray(document)) return document;
  const { source: given } = document;
  if (typeof given !== "object" || given === null || Array.isArray(given)) return document;
  // A role is taken at STS, and a profile can name whatever it likes.
  const { role_arn: _, profile: __, ...others } = given;
  return {
    ...document,
    source: { ...others, endpoint: CLOSED, ...("region" in given && { region: REGION }) },
  };
}

function mistakesIn(schema: RequestSchema, document: unknown): string[] {
  try {
    parseRequest(schema, document, () => {});
    return [];
  } catch (error) {
    const errors: unknown[] = error instanceof AggregateError ? error.errors : [error];
    return errors.map((one) => (one instanceof Error ? one.message : `no Error: ${typeof one}`));
  }
}

/** Whether a line is one that a person may be shown. */
const isPlain = (line: string): boolean =>
  /\S/.test(line) && !/[\r\n]/.test(line) && !JUNK.test(line) && !line.includes("marker");

/** Which rules of a step a run of it broke. */
function brokenRules({ status, stdout, stderr }: Outcome): string[] {
  const rules: Record<string, boolean> = {
    "the status is 0 or 1": status === 0 || status === 1,
    "an answer on success and only then": (status === 0) === (stdout !== ""),
    "the answer is one JSON document": stdout === "" || isJson(stdout),
    "a failure is told": status === 0 || stderr.length > 0,
    "every line is plain": stderr.every((line) => isPlain(line) && !/\p{Cc}/u.test(line)),
  };
  return Object.keys(rules).filter((rule) => !rules[rule]);
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

describe("random requests", () => {
  test.each<[StepName, RequestSchema]>([
    ["check", CheckRequest],
    ["in", InRequest],
    ["out", OutRequest],
  ])("%s takes them or says what is wrong, in lines without a secret", (step, schema) => {
    const met = { taken: 0, refused: 0 };
    fc.assert(
      fc.property(documentFor(step), (document) => {
        const mistakes = mistakesIn(schema, JSON.parse(textOf(document)));
        met[mistakes.length === 0 ? "taken" : "refused"]++;
        const isOurs = (line: string) => /^(source|params|version|the request)\b/.test(line);
        // A secret that was moved to another field is hidden on stderr; the binaries below show that.
        const shown = mistakes.map((line) => line.replaceAll(MARKER, "***"));
        expect(shown.filter((line) => !isOurs(line) || !isPlain(line))).toEqual([]);
      }),
      { numRuns: 10_000 },
    );
    expect({ taken: met.taken > 200, refused: met.refused > 200 }).toEqual({ taken: true, refused: true });
  });

  test("each binary answers or fails as Concourse expects it, and `in` writes nowhere else", async () => {
    const sources = `${folder}/sources`;
    await mkdir(`${sources}/artifacts`, { recursive: true });
    await writeFile(`${sources}/artifacts/version.txt`, MARKER);
    // Whatever else could lead away from this machine leads to the closed port as well.
    const env = {
      AWS_EC2_METADATA_DISABLED: "true",
      HOME: folder,
      ...Object.fromEntries(
        ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"].map((name) => [name, CLOSED]),
      ),
    };
    const runs = STEPS.flatMap((step) =>
      fc.sample(documentFor(step), 100).map((document, index) => ({ step, document, index })),
    );
    const broken: unknown[] = [];
    const statuses = { check: new Set(), in: new Set(), out: new Set() };
    const queue = runs.values();
    const work = async () => {
      for (const { step, document, index } of queue) {
        const words = { check: [], in: [`${folder}/got/${index}`], out: [sources] }[step];
        const request = textOf(closed(document));
        const outcome = await dist.run(step, request, { words, env });
        const rules = brokenRules(outcome);
        if (rules.length > 0) broken.push({ step, request, outcome, rules });
        statuses[step].add(outcome.status);
      }
    };
    // Most of the time is spent waiting to try again.
    await Promise.all(Array.from({ length: 8 }, work));
    expect(broken).toEqual([]);
    // Only `in` can succeed: nobody answers the others.
    expect(statuses).toEqual({ check: new Set([1]), in: new Set([0, 1]), out: new Set([1]) });
    expect((await readdir(folder)).toSorted()).toEqual(["got", "sources"]);
    const odd = (await readdir(`${folder}/got`)).filter((name) => !/^\d+$/.test(name));
    expect(odd).toEqual([]);
  });
});
