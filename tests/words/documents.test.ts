import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { getDescription } from "valibot";
import { fieldsOf, parseRequest } from "../../shared/request.ts";
import { CheckRequest, InRequest, OutRequest } from "../../shared/schema.ts";
import { jsonSchemaOf } from "../../.ci/schemas.ts";
import { startDynalite } from "../support/engine.ts";
import { type Answer, dist } from "../support/step.ts";
import { createTable } from "../support/table.ts";

/** What reads as translated; plain words say the same. */
const NOT_PLAIN = [
  "asks nobody",
  "a text in quotes",
  "of no use without",
  "passed over",
  "makes something of",
  "tells on stderr",
  "read for nothing else",
  "says so when the value may be stored",
  "put anew",
  "this takes it that",
  "right in an input",
  "that is no time",
  "for another resource",
  "asks once a minute",
  "no secret belongs",
  "played by a test",
  "yardstick",
];

const ROOT = `${import.meta.dir}/../..`;
const README = "README.md";
const documents = new Map(
  await Promise.all(
    [
      README,
      "CHANGELOG.md",
      "shared/ORDER.md",
      ...new Bun.Glob(".github/**/*.md").scanSync({ cwd: ROOT, dot: true }),
    ].map(async (path) => [path, await Bun.file(`${ROOT}/${path}`).text()] as const),
  ),
);
const readme = documents.get(README)!;

/** The names in the first column of the table that has this head, in the section with this heading. */
function fieldsInReadme(heading: string, head: string): string[] {
  const section = readme.split(/^#+ /m).find((part) => part.startsWith(heading)) ?? "";
  const lines = section.split("\n").filter((line) => line.startsWith("|"));
  const start = lines.findIndex((line) => line.startsWith(`| ${head} `));
  return lines
    .slice(start + 1)
    .flatMap((line) => Array.from(line.split("|")[1]?.matchAll(/`(\w+)`/g) ?? [], ([, name]) => name!));
}

/** The code blocks of a document in one of these languages. */
function blocksOf(text: string, languages = String.raw`\w+`): { language: string; code: string }[] {
  const blocks = text.matchAll(new RegExp(`^( *)\`\`\`(${languages})\n([^]*?)^\\1\`\`\`$`, "gm"));
  return Array.from(blocks, ([, indent = "", language = "", code = ""]) => ({
    language,
    code: code.replaceAll(new RegExp(`^${indent}`, "gm"), ""),
  }));
}

/** The anchors that GitHub gives to a document's headings. */
function anchorsOf(text: string): string[] {
  return Array.from(text.matchAll(/^#+ (.+)$/gm), ([, heading = ""]) =>
    heading
      .toLowerCase()
      .replace(/[^\w\s-]/g, "")
      .replaceAll(" ", "-"),
  );
}

test.each([
  ["source", "Source", "field", fieldsOf(CheckRequest).source],
  ["params of in", "`in`", "param", fieldsOf(InRequest).params],
  ["params of out", "`out`", "param", fieldsOf(OutRequest).params],
])("README lists each of the fields of %s once", (_, heading, table, fields) => {
  expect(fieldsInReadme(heading, table).toSorted()).toEqual(Object.keys(fields ?? {}).toSorted());
});

test("README has at most 260 lines, with a put and a get in the first 35", () => {
  const lines = readme.trimEnd().split("\n");
  expect(lines.length).toBeLessThanOrEqual(260);
  expect(lines.slice(0, 35).join("\n")).toMatch(/put: artifacts[^]*get: artifacts/);
});

test.each([...documents])("the code of %s is whole at 100 columns", (_, text) => {
  const lines = blocksOf(text).flatMap(({ code }) => code.split("\n"));
  expect(lines.filter((line) => line.length > 100 && !line.includes("https://"))).toEqual([]);
});

test("the documents' YAML and JSON can be pasted", () => {
  const examples = [...documents.values()].flatMap((text) => blocksOf(text, "yaml|json"));
  expect(examples.length).toBeGreaterThan(20);
  for (const { language, code } of examples)
    expect(language === "yaml" ? Bun.YAML.parse(code) : JSON.parse(code)).toEqual(expect.anything());
});

test.each([...documents])("the links of %s lead to a file, and to a heading in it", async (path, text) => {
  for (const [, link = ""] of text.matchAll(/\]\((?!https?:)([^)]+)\)/g)) {
    const [file = "", anchor] = link.split("#");
    const target = file === "" ? path : join(dirname(path), file);
    expect([link, existsSync(`${ROOT}/${target}`)]).toEqual([link, true]);
    if (anchor !== undefined) expect(anchorsOf(documents.get(target) ?? "")).toContain(anchor);
  }
});

test.each([...documents])("%s is in plain words", (_, text) => {
  const found = NOT_PLAIN.filter((words) => text.toLowerCase().replace(/\s+/g, " ").includes(words));
  expect(found).toEqual([]);
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

test("CONTRIBUTING's commands are those of the package", async () => {
  const { packageManager, scripts } = await import("../../package.json");
  const contributing = documents.get(".github/CONTRIBUTING.md")!;
  const commands = Array.from(contributing.matchAll(/bun run (\w+)/g), ([, name]) => name!);
  expect(commands).toContain("bench");
  expect(Object.keys(scripts)).toEqual(expect.arrayContaining(commands));
  expect(contributing).toContain(`npx --yes ${packageManager}`);
});

test("the messages that README explains are those of the programs", async () => {
  const messages = await Bun.file(`${import.meta.dir}/messages.txt`).text();
  const explained = readme.split("## Troubleshooting")[1]?.matchAll(/^\| `(.+?)` /gm) ?? [];
  const quoted = Array.from(explained, ([, message]) => message!);
  expect(quoted).toHaveLength(6);
  expect(quoted.filter((message) => !messages.includes(message))).toEqual([]);
});

const [head = [], , ...lines] = documents
  .get(".github/docs/semver.md")!
  .split("## What follows what")[1]!
  .split("\n")
  .filter((line) => line.startsWith("|"))
  .map((line) => line.replaceAll("`", "").split("|").slice(1, -1))
  .map((cells) => cells.map((cell) => cell.trim()));

test.each([...lines])("semver.md says what follows %s", async (newest, ...following) => {
  expect(head.slice(1)).toEqual(["major", "minor", "patch", "final", "pre: rc", "minor, pre: rc"]);
  const bumps = [
    { bump: "major" },
    { bump: "minor" },
    { bump: "patch" },
    { bump: "final" },
    { pre: "rc" },
    { bump: "minor", pre: "rc" },
  ];
  const engine = await startDynalite();
  const found = await Promise.all(
    bumps.map(async (params) => {
      await using table = await createTable(engine);
      await table.add({ created: new Date().toISOString(), value: newest });
      const request = { source: table.source, params };
      const { status, stdout } = await dist.run("out", request, { words: ["/"] });
      return status === 1 ? "error" : (JSON.parse(stdout) as Answer).version.value;
    }),
  );
  expect(found).toEqual(following);
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
    for (const [part, fields] of Object.entries(fieldsOf(schema))) {
      for (const [name, field] of Object.entries(fields)) {
        // A get uses no more of the source than it shows.
        if (step === "in" && part === "source" && !["table_name", "key", "region"].includes(name)) continue;
        expect(stdout).toMatch(new RegExp(`^  ${name} +${RegExp.escape(getDescription(field) ?? "")}`, "m"));
      }
    }
    const [, example = ""] = /<<'JSON'\n([^]*?)\nJSON\n/.exec(stdout) ?? [];
    expect(parseRequest(schema, JSON.parse(example), () => {})).toMatchObject(JSON.parse(example));
  },
);
