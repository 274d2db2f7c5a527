import { expect, test } from "bun:test";
import { CheckRequest, fieldsOf, InRequest, OutRequest } from "../shared/schema.ts";

const readme = await Bun.file(`${import.meta.dir}/../README.md`).text();

/** The names in the first column of the table that has this head, in the section with this heading. */
function fieldsInReadme(heading: string, head: string): string[] {
  const section = readme.split(/^#+ /m).find((part) => part.startsWith(heading)) ?? "";
  const rows = section.split("\n").filter((line) => line.startsWith("|"));
  const start = rows.findIndex((row) => row.startsWith(`| ${head} `));
  return rows
    .slice(start + 1)
    .flatMap((row) => Array.from(row.split("|")[1]?.matchAll(/`(\w+)`/g) ?? [], ([, name]) => name!));
}

test.each([
  ["source", "Source configuration", "field", fieldsOf(CheckRequest).source],
  ["params of in", "`in`", "param", fieldsOf(InRequest).params],
  ["params of out", "`out`", "param", fieldsOf(OutRequest).params],
])("README lists the fields of %s, in the schema's order", (_, heading, table, fields) => {
  expect(fieldsInReadme(heading, table)).toEqual(Object.keys(fields ?? {}));
});

test("README's JSON and its commands are those of the product", async () => {
  const { packageManager, scripts } = await import("../package.json");
  for (const [, name = ""] of readme.matchAll(/^npx --yes bun@[\d.]+ run (\w+)/gm))
    expect(scripts).toHaveProperty(name);
  for (const [, version] of readme.matchAll(/npx --yes (bun@[\d.]+)/g)) expect(version).toBe(packageManager);
});
