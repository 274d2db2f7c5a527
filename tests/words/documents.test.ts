import { expect, test } from "bun:test";
import { getDescription } from "valibot";
import { fieldsOf, parseRequest } from "../../shared/request.ts";
import { CheckRequest, InRequest, OutRequest } from "../../shared/schema.ts";
import { jsonSchemaOf } from "../../.ci/schemas.ts";
import { dist } from "../support/step.ts";

const readme = await Bun.file(`${import.meta.dir}/../../README.md`).text();

/** The names in the first column of the table that has this head, in the section with this heading. */
function fieldsInReadme(heading: string, head: string): string[] {
  const section = readme.split(/^#+ /m).find((part) => part.startsWith(heading)) ?? "";
  const lines = section.split("\n").filter((line) => line.startsWith("|"));
  const start = lines.findIndex((line) => line.startsWith(`| ${head} `));
  return lines
    .slice(start + 1)
    .flatMap((line) => Array.from(line.split("|")[1]?.matchAll(/`(\w+)`/g) ?? [], ([, name]) => name!));
}

test.each([
  ["source", "Source configuration", "field", fieldsOf(CheckRequest).source],
  ["params of in", "`in`", "param", fieldsOf(InRequest).params],
  ["params of out", "`out`", "param", fieldsOf(OutRequest).params],
])("README lists the fields of %s, in the schema's order", (_, heading, table, fields) => {
  expect(fieldsInReadme(heading, table)).toEqual(Object.keys(fields ?? {}));
});

test("README's YAML and JSON can be pasted", () => {
  const examples = Array.from(readme.matchAll(/```(yaml|json)\n([^]*?)```/g), ([, kind, text = ""]) => ({
    kind,
    text,
  }));
  expect(examples.length).toBeGreaterThan(10);
  for (const { kind, text } of examples)
    expect(kind === "yaml" ? Bun.YAML.parse(text) : JSON.parse(text)).toEqual(expect.anything());
});

test("README's commands are those of the package, by the Bun that it is pinned to", async () => {
  const { packageManager, scripts } = await import("../../package.json");
  const commands = Array.from(readme.matchAll(/npx --yes (\S+) run (\w+)/g), ([, bun, name]) => ({
    bun,
    name,
  }));
  expect(commands.map(({ name }) => name)).toEqual(["demo", "test"]);
  for (const { bun, name } of commands) {
    expect(bun).toBe(packageManager);
    expect(scripts).toHaveProperty(name!);
  }
});

test.each([
  ["source", fieldsOf(CheckRequest).source],
  ["get", fieldsOf(InRequest).params],
  ["put", fieldsOf(OutRequest).params],
] as const)("the JSON Schema of %s knows the same fields, and no other", (part, fields = {}) => {
  const { properties, required, additionalProperties } = jsonSchemaOf(part);
  const described = Object.entries(properties as Record<string, { description?: string }>);
  expect(described.map(([name, { description }]) => [name, description])).toEqual(
    Object.entries(fields).map(([name, field]) => [name, getDescription(field)]),
  );
  expect(required).toEqual(part === "source" ? ["table_name", "partition_key", "key"] : []);
  expect(additionalProperties).toBeFalse();
});

test.each([
  ["check", CheckRequest],
  ["in", InRequest],
  ["out", OutRequest],
] as const)(
  "the help of %s describes the same fields, and its example is a good request",
  async (step, schema) => {
    const { stdout } = await dist.run(step, "", { words: ["--help"] });
    for (const fields of Object.values(fieldsOf(schema))) {
      for (const [name, field] of Object.entries(fields)) {
        expect(stdout).toMatch(new RegExp(`^  ${name} +${RegExp.escape(getDescription(field) ?? "")}`, "m"));
      }
    }
    const [, example = ""] = /<<'JSON'\n(.*)\n/.exec(stdout) ?? [];
    expect(parseRequest(schema, JSON.parse(example))).toMatchObject(JSON.parse(example));
  },
);
