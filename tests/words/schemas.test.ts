import { expect, test } from "bun:test";
import { readdir, readFile } from "node:fs/promises";
import { getLanguageService, TextDocument } from "vscode-json-languageservice";
import { jsonSchemaOf, pipelineSchema } from "../../.ci/schemas.ts";

const EXAMPLES = `${import.meta.dir}/../examples`;
const service = getLanguageService({});

/** What an editor tells about something under a schema. */
async function errorsOf(schema: object, given: unknown): Promise<string[]> {
  const document = TextDocument.create("file:///pipeline.json", "json", 1, JSON.stringify(given));
  const json = service.parseJSONDocument(document);
  const found = await service.doValidation(document, json, {}, schema);
  return found.map(({ message }) => (typeof message === "string" ? message : message.value));
}

const source = { table_name: "packages-table", partition_key: "application", key: "my-app" };
const pipelineOf = (given: object | string) => ({
  resources: [{ name: "artifacts", type: "dynamo-keyval", source: given }],
});

test("an editor accepts every example", async () => {
  const names = (await readdir(EXAMPLES)).filter((name) => name.endsWith(".yml"));
  expect(names).not.toBeEmpty();
  for (const name of names) {
    const given = Bun.YAML.parse(await readFile(`${EXAMPLES}/${name}`, "utf8"));
    expect({ name, errors: await errorsOf(pipelineSchema(), given) }).toEqual({ name, errors: [] });
  }
});

test("an editor accepts every YAML block of README", async () => {
  const readme = await readFile(`${import.meta.dir}/../../README.md`, "utf8");
  const blocks = [...readme.matchAll(/^```ya?ml\n([^]*?)^```/gm)];
  expect(blocks).not.toBeEmpty();
  for (const [, block = ""] of blocks) {
    const parsed = Bun.YAML.parse(block);
    const given = Array.isArray(parsed) ? { jobs: [{ name: "job", plan: parsed }] } : parsed;
    expect({ block, errors: await errorsOf(pipelineSchema(), given) }).toEqual({ block, errors: [] });
  }
});

test.each<[string, object | string]>([
  ["in place of the source", "((source))"],
  ["inside a string", { ...source, table_name: "((team))-values" }],
  ["as part of an ARN", { ...source, role_arn: "arn:aws:iam::((account)):role/x" }],
  ["for a number", { ...source, history: "((history))" }],
  ["for true", { ...source, debug: "((debug))" }],
  [
    "in no place at all",
    { ...source, region: "eu-west-1", access_key: "AKIA", secret_key: "x", use_fips: "true", keep: "5" },
  ],
  ["for a list", { ...source, ca_certs: "((certs))" }],
])("an editor accepts a var %s", async (_, given) => {
  expect(await errorsOf(pipelineSchema(), pipelineOf(given))).toEqual([]);
});

test("an editor tells one error about a mistake in a pipeline, and none about other types", async () => {
  const pipeline = pipelineOf({ ...source, history: 1.5 });
  expect(await errorsOf(pipelineSchema(), pipeline)).toHaveLength(1);
  const others = { resources: pipeline.resources.map((one) => ({ ...one, type: "git" })) };
  expect(await errorsOf(pipelineSchema(), others)).toEqual([]);
});

test.each<[string, (put: object) => object]>([
  ["in a plan", (put) => put],
  ["in do", (put) => ({ do: [put] })],
  ["in in_parallel", (put) => ({ in_parallel: { steps: [{ get: "a" }, put] } })],
  ["in a short in_parallel", (put) => ({ in_parallel: [put] })],
  ["in try in on_failure", (put) => ({ task: "a", on_failure: { try: put } })],
])("an editor checks the params of a put that is ours: %s", async (_, nest) => {
  const pipeline = (params: object) => ({ jobs: [{ name: "job", plan: [nest({ put: "a", params })] }] });
  expect(await errorsOf(pipelineSchema(), pipeline({ value: 1.1, expect: "1" }))).toHaveLength(1);
  expect(await errorsOf(pipelineSchema(), pipeline({ value: "1", expect: "1" }))).toEqual([]);
  expect(await errorsOf(pipelineSchema(), pipeline({ value: 1.1, other: "1" }))).toEqual([]);
});

test.each<[string, "source" | "get" | "put", object]>([
  ["a region that is none", "source", { ...source, region: "eu west" }],
  ["a history of 1.5", "source", { ...source, history: 1.5 }],
  ["access_key alone", "source", { ...source, access_key: "a" }],
  ["an endpoint without scheme", "source", { ...source, endpoint: "localhost:8000" }],
  ["a flag that is a text", "source", { ...source, debug: "yes" }],
  ["an unknown field", "source", { ...source, tabel: "a" }],
  ["a path in get's file", "get", { file: "a/b" }],
  ["a value that YAML has cut", "put", { value: 1.1 }],
  ["file beside value", "put", { file: "a", value: "b" }],
  ["bump beside value", "put", { bump: "minor", value: "b" }],
  ["pre with bump: final", "put", { bump: "final", pre: "rc" }],
  ["an unknown bump", "put", { bump: "huge" }],
  ["expect of null", "put", { value: "1", expect: null }],
  ["get_latest beside value", "put", { get_latest: true, value: "b" }],
  ["bump beside unpack", "get", { bump: "minor", unpack: true }],
])("an editor tells one error about %s", async (_, part, given) => {
  expect(await errorsOf(jsonSchemaOf(part), given)).toHaveLength(1);
});
