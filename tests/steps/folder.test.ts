import { afterAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import type { Answer } from "../support/step.ts";
import { describeSubjects } from "../support/subjects.ts";

const folder = await mkdtemp(`${tmpdir()}/folder-`);
afterAll(() => rm(folder, { recursive: true }));

async function sourcesWith(files: Record<string, string | Uint8Array>): Promise<string> {
  const sources = await mkdtemp(`${folder}/sources-`);
  await mkdir(`${sources}/settings`);
  await Promise.all(
    Object.entries(files).map(([name, content]) => writeFile(`${sources}/settings/${name}`, content)),
  );
  return sources;
}

describeSubjects("a folder as one value", ({ createTable, run, answerOf }) => {
  const files = {
    "zone.txt": "eu\n",
    "a b 'c'.properties": 'NAME="x"\r\n\r\n',
    ".hidden": "",
    "version.txt": "\ufeff1.0",
    "version.json": "{}",
    "größe 🔑": "é漢🔑",
  };

  test("comes out of a get with the bytes that went in", async () => {
    await using table = await createTable();
    const words = [await sourcesWith(files)];
    const request = { source: table.source, params: { directory: "settings" } };
    const { version } = await answerOf<Answer>("out", request, { words });
    expect(Object.keys(JSON.parse(version.value))).toEqual(Object.keys(files).toSorted());
    expect(await table.items()).toMatchObject([version]);
    const destination = `${words[0]}/get`;
    await answerOf(
      "in",
      { source: table.source, version, params: { unpack: true } },
      { words: [destination] },
    );
    expect((await readdir(destination)).toSorted()).toEqual(Object.keys(files).toSorted());
    for (const [name, content] of Object.entries(files)) {
      expect(await readFile(`${destination}/${name}`)).toEqual(Buffer.from(content));
    }
  });

  test("is the same value for the same files", async () => {
    await using table = await createTable();
    const params = { directory: "settings", skip_unchanged: true };
    const put = async (names: string[]) => {
      const words = [await sourcesWith(Object.fromEntries(names.map((name) => [name, name])))];
      return (await answerOf<Answer>("out", { source: table.source, params }, { words })).version;
    };
    expect(await put(["b", "a", "10", "9"])).toEqual(await put(["9", "10", "a", "b"]));
    expect(await table.items()).toHaveLength(1);
  });

  test.each<[string, Record<string, string | Uint8Array>, string]>([
    [
      "a binary file",
      { good: "1", "logo.png": new Uint8Array([0x89, 0x50]) },
      'params.directory: "settings/logo.png" is not UTF-8 text; save it as UTF-8',
    ],
    ["a file with NUL", { nul: "a\0" }, 'params.directory: "settings/nul" contains a NUL character'],
    ["no file", {}, 'params.directory: "settings" contains no files'],
    [
      "more than an item",
      { a: "x".repeat(300_000), b: "x".repeat(300_000) },
      'params.directory: "settings/b" makes the item too large; a DynamoDB item holds 409600 bytes',
    ],
  ])("is refused by name: %s", async (_, content, line) => {
    await using table = await createTable();
    const words = [await sourcesWith(content)];
    const { status, stdout, stderr } = await run(
      "out",
      { source: table.source, params: { directory: "settings" } },
      { words },
    );
    expect({ status, stdout, stderr }).toEqual({
      status: 1,
      stdout: "",
      stderr: [expect.stringContaining(line)],
    });
    expect(await table.items()).toEqual([]);
  });

  test("of too many files is refused before they are read", async () => {
    await using table = await createTable();
    const names = Array.from({ length: 3000 }, (_, index) => `${"x".repeat(200)}${index}`);
    const sources = await sourcesWith(
      Object.fromEntries(names.map((name) => [name, new Uint8Array([0xff])])),
    );
    const { status, stderr } = await run(
      "out",
      { source: table.source, params: { directory: "settings" } },
      { words: [sources] },
    );
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: [expect.stringContaining('params.directory: "settings" has 3000 files in it')],
    });
  });

  test.each<[string, Buffer]>([
    ["little-endian", Buffer.from("\ufeffa", "utf16le")],
    ["big-endian", Buffer.from("\ufeffa", "utf16le").swap16()],
  ])("takes no UTF-16: %s", async (_, content) => {
    await using table = await createTable();
    const words = [await sourcesWith({ a: content })];
    const request = { source: table.source, params: { directory: "settings" } };
    expect((await run("out", request, { words })).stderr).toEqual([
      expect.stringContaining('"settings/a" is not UTF-8 text, but UTF-16'),
    ]);
  });

  test("is refused by name: a folder in it, a link that leads outside, and no folder at all", async () => {
    await using table = await createTable();
    const refusal = async (sources: string, directory: string) =>
      (await run("out", { source: table.source, params: { directory } }, { words: [sources] })).stderr;
    const withFolder = await sourcesWith({});
    await mkdir(`${withFolder}/settings/more`);
    expect(await refusal(withFolder, "settings")).toEqual([
      'params.directory: "settings/more" is a directory; only files are supported',
    ]);
    const withLink = await sourcesWith({});
    await symlink("/etc/passwd", `${withLink}/settings/link`);
    expect(await refusal(withLink, "settings")).toEqual([
      'params.directory: "settings/link" is a symbolic link that leads outside the sources directory',
    ]);
    const withFile = await sourcesWith({ a: "1" });
    expect(await refusal(withFile, "settings/a")).toEqual([
      'params.directory: "settings/a" cannot be read as a directory: ENOTDIR',
    ]);
    expect(await refusal(withFile, "../settings")).toEqual([expect.stringContaining("leads outside")]);
    expect(await refusal(withFile, "nothing")).toEqual([
      expect.stringContaining("does not exist; the put step has these inputs: settings"),
    ]);
  });

  test.each([
    "package-1.2",
    "[]",
    "null",
    '{"a": 1}',
    '{"../a": "1"}',
    '{"a/b": "1"}',
    '{"": "1"}',
    '{".": "1"}',
    '"text"',
    "42",
    "true",
    '{"a": "\\ud800"}',
  ])("is none in a value that no put of a folder has stored: %s", async (value) => {
    const destination = await mkdtemp(`${folder}/get-`);
    const source = { table_name: "packages-table", partition_key: "application", key: "my-app" };
    const request = {
      source,
      version: { value, created: "2026-11-23T15:04:05.123Z" },
      params: { unpack: true },
    };
    const { status, stderr } = await run("in", request, { words: [destination] });
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: [expect.stringMatching(/^params\.unpack: the value was not stored by a put with directory/)],
    });
    expect(await readdir(destination)).toEqual([]);
  });
});
