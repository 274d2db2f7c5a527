import { expect, test } from "bun:test";
import { CheckRequest, fieldsOf, InRequest, OutRequest } from "../shared/schema.ts";

const readme = await Bun.file(`${import.meta.dir}/../README.md`).text();

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

test("README's commands are those of the package, by the Bun that it is pinned to", async () => {
  const { packageManager, scripts } = await import("../package.json");
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
