import { afterAll, describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname } from "node:path";
import { awsError, startProxy } from "../support/proxy.ts";
import { type Answer, unreachable, type Version } from "../support/step.ts";
import { describeSteps, describeSubjects } from "../support/subjects.ts";

const folder = await mkdtemp(`${tmpdir()}/out-`);
afterAll(() => rm(folder, { recursive: true }));

/** A sources directory with files in it; a content that is a list is the target of a link, one that is null a folder. */
async function sourcesWith(files: Record<string, string | Uint8Array | [string] | null>): Promise<string> {
  const sources = await mkdtemp(`${folder}/sources-`);
  for (const [name, content] of Object.entries(files)) {
    const path = `${sources}/${name}`;
    await mkdir(content === null ? path : dirname(path), { recursive: true });
    if (Array.isArray(content)) await symlink(content[0], path);
    else if (content !== null) await writeFile(path, content);
  }
  return sources;
}

const ISO = /^2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const LIMIT = 409_600;

/** How many bytes of value make an item of exactly 400 KB, under the tables' key: application=my-app. */
const LARGEST =
  LIMIT -
  [`applicationmy-app`, `created2026-11-23T15:04:05.123Z`, `value`, `put_id${crypto.randomUUID()}`].join("")
    .length;

describeSubjects("out", ({ createTable, run, answerOf }) => {
  test.each<[string, string | Uint8Array, string]>([
    ["plain", "package-1.2", "package-1.2"],
    ["with a final newline", "package-1.2\n", "package-1.2"],
    ["with a final CRLF", "package-1.2\r\n", "package-1.2"],
    ["with two final newlines", "package-1.2\n\n", "package-1.2\n"],
    ["with a final CR", "package-1.2\r", "package-1.2\r"],
    ["with inner newlines", "a\nb\r\nc\n", "a\nb\r\nc"],
    ["with blanks around", "  a \t\n", "  a \t"],
    ["with a byte-order mark", "\ufeffa", "a"],
    ["with two byte-order marks", "\ufeff\ufeffa", "\ufeffa"],
    ["with quotes and backslashes", `{"a": "\\n'"}`, `{"a": "\\n'"}`],
    ["with characters of every size", "é漢🔑", "é漢🔑"],
    ["of 300 KB", "0123456789".repeat(30_000), "0123456789".repeat(30_000)],
    ["as large as can be", "x".repeat(LARGEST), "x".repeat(LARGEST)],
  ])("a file's text %s goes through the table as it is", async (_, content, value) => {
    await using table = await createTable();
    const words = [await sourcesWith({ "artifacts/version.txt": content })];
    const answer = await answerOf<Answer>("out", { source: table.source }, { words });
    const created = expect.stringMatching(ISO);
    expect(answer.version).toEqual({ value, created });
    expect(await table.items()).toEqual([
      {
        application: "my-app",
        created: answer.version.created,
        value,
        put_id: expect.stringMatching(/^[\da-f-]{36}$/),
      },
    ]);
    expect(await answerOf<unknown>("check", { source: table.source })).toEqual([answer.version]);
    const destination = `${words[0]}/get`;
    await answerOf("in", { source: table.source, version: answer.version }, { words: [destination] });
    expect(await readFile(`${destination}/version.txt`, "utf8")).toBe(`${value}\n`);
  });

  test.each<[string, unknown, string]>([
    ["a text", "1.10", "1.10"],
    ["a text that ends in a newline", "a\n", "a\n"],
    ["a whole number", 42, "42"],
    ["a negative number", -7, "-7"],
    ["the largest exact number", 2 ** 53 - 1, "9007199254740991"],
    ["a text with every kind of quote", `"'\`\\`, `"'\`\\`],
  ])("params.value: %s", async (_, value, stored) => {
    await using table = await createTable();
    const answer = await answerOf<Answer>(
      "out",
      { source: table.source, params: { value } },
      { words: [folder] },
    );
    expect(answer.version.value).toBe(stored);
    expect(await table.items()).toMatchObject([answer.version]);
  });

  test("tells about what it put", async () => {
    await using table = await createTable();
    const value = "é".repeat(600);
    const request = { source: table.source, params: { value } };
    const { version, metadata } = await answerOf<Answer>("out", request, { words: [folder] });
    expect(metadata).toEqual([
      { name: "key", value: "my-app" },
      { name: "preview", value: "é".repeat(512) },
      { name: "created", value: version.created },
      { name: "size", value: "1200" },
      { name: "table", value: table.source.table_name },
      { name: "region", value: "us-east-1" },
    ]);
  });

  test.each<[string, Record<string, string>, string]>([
    ["AWS_REGION", { AWS_REGION: "eu-west-1", AWS_DEFAULT_REGION: "eu-west-2" }, "eu-west-1"],
    ["AWS_DEFAULT_REGION", { AWS_REGION: "", AWS_DEFAULT_REGION: "eu-west-2" }, "eu-west-2"],
    ["us-east-1", {}, "us-east-1"],
  ])("without region: %s", async (_, env, region) => {
    await using table = await createTable();
    const { region: __, ...source } = table.source;
    await using proxy = startProxy(table.source.endpoint, () => undefined);
    const request = { source: { ...source, endpoint: proxy.endpoint }, params: { value: "1" } };
    // Which table a region has is the engine's affair, so the answer may be that there is none.
    const { stdout, stderr } = await run("out", request, { words: [folder], env });
    expect(proxy.asked[0]?.authorization).toContain(`/${region}/dynamodb/aws4_request`);
    expect(`${stdout}${stderr.join("\n")}`).toContain(region);
  });

  test.each<[string, Record<string, string>, string | undefined]>([
    [
      "a job's build",
      {
        ATC_EXTERNAL_URL: "https://ci.example.com",
        BUILD_ID: "4711",
        BUILD_TEAM_NAME: "main",
        BUILD_PIPELINE_NAME: "my app",
        BUILD_JOB_NAME: "build",
        BUILD_NAME: "12",
      },
      "https://ci.example.com/teams/main/pipelines/my%20app/jobs/build/builds/12",
    ],
    [
      "a build of no job",
      { ATC_EXTERNAL_URL: "https://ci.example.com/", BUILD_ID: "4711" },
      "https://ci.example.com/builds/4711",
    ],
    [
      "a build of an instance of a pipeline",
      {
        ATC_EXTERNAL_URL: "https://ci.example.com",
        BUILD_ID: "4711",
        BUILD_TEAM_NAME: "main",
        BUILD_PIPELINE_NAME: "my app",
        BUILD_PIPELINE_INSTANCE_VARS: '{"branch":"main"}',
        BUILD_JOB_NAME: "build",
        BUILD_NAME: "12",
      },
      "https://ci.example.com/builds/4711",
    ],
    ["no build", {}, undefined],
  ])("says which build put an item: %s", async (_, env, build) => {
    await using table = await createTable();
    const request = { source: table.source, params: { value: "1" } };
    const { version, metadata } = await answerOf<Answer>("out", request, { words: [folder], env });
    expect(metadata.filter(({ name }) => name === "build")).toEqual(
      build === undefined ? [] : [{ name: "build", value: build }],
    );
    expect((await table.items()).map(({ put_build }) => put_build)).toEqual([build]);
    expect(await answerOf<unknown>("check", { source: table.source }, { env })).toEqual([version]);
  });

  test("puts in order, one after the other, and the head says where", async () => {
    await using table = await createTable();
    const versions: Version[] = [];
    for (const value of ["1", "2", "2", "3"]) {
      const request = { source: table.source, params: { value } };
      versions.push((await answerOf<Answer>("out", request, { words: [folder] })).version);
    }
    expect(await table.items()).toMatchObject(versions);
    expect(await table.head()).toEqual({
      application: "my-app",
      created: "1970-01-01T00:00:00.000Z",
      value: "",
      put_next: versions.at(-1)?.created,
    } as Record<string, string>);
  });

  describe("skip_unchanged", () => {
    test("is judged at every look", async () => {
      await using table = await createTable();
      await table.add({ created: "2026-01-01T00:00:00.000Z", value: "1" });
      const params = { value: "2", skip_unchanged: true };
      let claims = 0;
      await using proxy = startProxy(table.source.endpoint, async ({ operation }) => {
        if (operation !== "UpdateItem" || claims++ > 0) return undefined;
        // Another put of this value is whole before the claim arrives.
        await answerOf("out", { source: table.source, params }, { words: [folder] });
        return awsError("ConditionalCheckFailedException", "The conditional request failed");
      });
      const source = { ...table.source, endpoint: proxy.endpoint };
      const { status, stdout, stderr } = await run("out", { source, params }, { words: [folder] });
      expect({ status, stderr }).toEqual({
        status: 0,
        stderr: [expect.stringMatching(/^nothing is stored/)],
      });
      const items = await table.items();
      expect(items).toHaveLength(2);
      expect(items.at(-1)).toMatchObject(JSON.parse(stdout).version);
    });

    const newest = { created: "2026-01-02T00:00:00.000Z", value: "1" };
    const older = { created: "2026-01-01T00:00:00.000Z", value: "0" };
    const oldStyle = { created: "01/03/2026 00:00:00", value: "1" };

    test.each<[string, Version[], boolean | string, string, string | undefined]>([
      ["the newest value again", [older, newest], true, "1", newest.created],
      ["as text", [older, newest], "true", "1", newest.created],
      ["the newest value, an old-style one, again", [newest, older, oldStyle], true, "1", oldStyle.created],
      ["an older value", [older, newest], true, "0", undefined],
      ["another value", [older, newest], true, "2", undefined],
      ["no item", [], true, "initial", undefined],
      ["off", [older, newest], false, "1", undefined],
      ["off, as text", [older, newest], "false", "1", undefined],
    ])("%s", async (_, items, skip, value, created) => {
      await using table = await createTable();
      await table.add(...items);
      const source = { ...table.source, initial_value: "initial", keep: 1 };
      const request = { source, params: { value, skip_unchanged: skip } };
      const { version } = await answerOf<Answer>("out", request, { words: [folder] });
      if (created === undefined) {
        expect(version.created > "2026-01-02").toBeTrue();
        expect(await table.items()).toContainEqual(expect.objectContaining(version));
      } else {
        expect(version).toEqual({ value, created });
        expect(await table.items()).toHaveLength(items.length);
        expect(await table.head()).toBeUndefined();
      }
    });
  });

  test.each<[string, Record<string, string | Uint8Array | null | [string]>, string]>([
    ["in the one input", { "artifacts/version.txt": "1", "artifacts/other.txt": "2" }, "1"],
    ["in one of several inputs", { "a/x.txt": "2", "b/version.txt": "1", "c/deep/version.txt": "3" }, "1"],
    ["UTF-16, little-endian", { "a/version.txt": Buffer.from("\ufeffé🔑\r\n", "utf16le") }, "é🔑"],
    ["UTF-16, big-endian", { "a/version.txt": Buffer.from("\ufeffé🔑\n", "utf16le").swap16() }, "é🔑"],
    ["control characters", { "a/version.txt": "\u0001a\u0002b" }, "\u0001a\u0002b"],
    ["in the sources directory itself", { "version.txt": "1", "a/x.txt": "2" }, "1"],
    ["beside a folder of that name", { "a/version.txt/x": "2", "b/version.txt": "1" }, "1"],
    ["in an input of that name", { "version.txt/version.txt": "1" }, "1"],
    ["a link within the inputs", { "a/version.txt": ["../b/other"], "b/other": "1" }, "1"],
  ])("without file and value, version.txt %s", async (_, files, value) => {
    await using table = await createTable();
    const { version } = await answerOf<Answer>(
      "out",
      { source: table.source },
      { words: [await sourcesWith(files)] },
    );
    expect(version.value).toBe(value);
  });

  test.each<[string, Record<string, string | [string]>, string]>([
    ["a file of an input", { "a/b c.txt": "1" }, "a/b c.txt"],
    ["a file further down", { "a/b/c/d": "1" }, "a/b/c/d"],
    ["with dots", { "a/..b/.c": "1" }, "./a/./..b//.c"],
    ["a link to a file of another input", { "a/link": ["../b/x"], "b/x": "1" }, "a/link"],
    ["through a link to a folder of another input", { "a/link": ["../b"], "b/x": "1" }, "a/link/x"],
  ])("params.file: %s", async (_, files, file) => {
    await using table = await createTable();
    const words = [await sourcesWith(files)];
    const { version } = await answerOf<Answer>("out", { source: table.source, params: { file } }, { words });
    expect(version.value).toBe("1");
  });

  test.each<[string, string, string[]]>([
    ["an empty value", "", ["warning: storing an empty value"]],
    ["3 KB of ASCII and more", "x".repeat(4000), []],
    ["more than 3 KB with other characters", "é".repeat(1537), []],
  ])("warns where it should: %s", async (_, value, lines) => {
    await using table = await createTable();
    const { status, stderr } = await run(
      "out",
      { source: table.source, params: { value } },
      { words: [folder] },
    );
    expect({ status, stderr }).toEqual({
      status: 0,
      stderr: lines.map((line): string => expect.stringContaining(line)),
    });
    expect(await table.items()).toMatchObject([{ value }]);
  });
});

describeSteps("out refuses, before any request", ({ run }) => {
  const source = unreachable;
  const outside = `${folder}/outside.txt`;

  test.each<
    [string, Record<string, string | Uint8Array | [string] | null>, string | undefined, string | RegExp]
  >([
    ["an absolute path", { "a/x": "1" }, "/etc/passwd", '/etc/passwd" leads outside the sources directory'],
    ["a path up", { "a/x": "1" }, "../x", "leads outside the sources directory"],
    ["a path up and down again", { "a/x": "1" }, "a/../a/x", "leads outside the sources directory"],
    ["a link to a file outside", { "a/link": [outside] }, "a/link", "is a symbolic link that leads outside"],
    [
      "a link to a folder outside",
      { "a/link": [folder] },
      "a/link/outside.txt",
      "is a symbolic link that leads outside",
    ],
    ["a link to the sources' neighbour", { "a/link": [`${folder}/sources-`] }, "a/link/x", "does not exist"],
    ["a link to itself", { "a/link": ["link"] }, "a/link", "cannot be read: ELOOP"],
    [
      "a link to nothing",
      { "a/link": ["nothing"] },
      "a/link",
      "does not exist; the put step has these inputs: a",
    ],
    ["a folder", { "a/b/x": "1" }, "a/b", "is a directory; only files are supported"],
    ["the sources directory", { "a/x": "1" }, ".", '"." is a directory; only files are supported'],
    ["a device", { "a/zero": ["/dev/zero"] }, "a/zero", "leads outside"],
    [
      "a missing file",
      { "a/x": "1", "b/y": "2" },
      "c/version.txt",
      'does not exist; "c" is not an input; the put step has these inputs: a, b',
    ],
    [
      "a missing file of an input",
      { "a/x": "1" },
      "a/version.txt",
      '"a/version.txt" does not exist; the put step has these inputs: a',
    ],
    ["a missing file without inputs", {}, "c/version.txt", "does not exist; the put step has no inputs"],
    ["a path through a file", { "a/x": "1" }, "a/x/y", "cannot be read: ENOTDIR"],
    ["a file with NUL in its name", { "a/x": "1" }, "a\0b", "params.file must not contain a NUL character"],
    ["a file with a newline in its name", {}, "a\nb", '"a\\nb" does not exist'],
    ["invalid UTF-8", { "a/x": new Uint8Array([0x61, 0xff]) }, "a/x", "is not UTF-8 text"],
    ["half a surrogate pair", { "a/x": new Uint8Array([0xed, 0xa0, 0x80]) }, "a/x", "is not UTF-8 text"],
    [
      "half of UTF-16",
      { "a/x": Buffer.from("fffe6100 31".replace(" ", ""), "hex") },
      "a/x",
      "is not valid UTF-16",
    ],
    [
      "UTF-16 without a mark",
      { "a/x": Buffer.from("1.0", "utf16le") },
      "a/x",
      "is UTF-16 without a byte-order mark",
    ],
    [
      "UTF-16 without a mark, Latin and Cyrillic",
      { "a/x": Buffer.from("ab привет\n", "utf16le") },
      "a/x",
      "is UTF-16 without a byte-order mark",
    ],
    [
      "UTF-16 without a mark, Cyrillic alone",
      { "a/x": Buffer.from("привет", "utf16le") },
      "a/x",
      "is UTF-16 without a byte-order mark",
    ],
    [
      "a byte too many",
      { "a/x": Buffer.from("3100320033", "hex") },
      "a/x",
      "is UTF-16 without a byte-order mark",
    ],
    ["half a pair in UTF-16", { "a/x": Buffer.from("feffd83d", "hex") }, "a/x", "is not valid UTF-16"],
    [
      "NUL",
      { "a/x": "a\0b" },
      "a/x",
      'params.file: "a/x" contains a NUL character, which Concourse cannot store',
    ],
    [
      "one byte too much",
      { "a/x": `${"x".repeat(LARGEST + 1)}\n` },
      "a/x",
      `is too large: ${LIMIT + 1} bytes, 1 more than a DynamoDB item may have (${LIMIT})`,
    ],
    [
      "20 MB",
      { "a/x": "x".repeat(20_000_000) },
      "a/x",
      `is too large: 20000000 bytes, ${20_000_000 - LIMIT} more than`,
    ],
    [
      "a file with a backslash in its name",
      { "a\\x": "right", "a/x": "wrong" },
      "a\\x",
      "has a backslash in its name",
    ],
    [
      "no version.txt",
      { "a/x": "1", "b/c/version.txt": "2" },
      undefined,
      "no value to put: no version.txt at the top level of an input; set params.value, file, directory or bump (inputs: a, b)",
    ],
    [
      "no inputs",
      {},
      undefined,
      "no value to put: the put step has no inputs; add them (example: inputs: [artifacts]), or set params.value, file, directory or bump",
    ],
    [
      "several",
      { "a/version.txt": "1", "b/version.txt": "1" },
      undefined,
      "no value to put: more than one version.txt (a/version.txt, b/version.txt); set params.file",
    ],
    [
      "a version.txt that is a link outside",
      { "a/version.txt": [outside] },
      undefined,
      "is a symbolic link that leads outside",
    ],
  ])("%s", async (_, files, file, line) => {
    await writeFile(outside, "untouched");
    const words = [await sourcesWith(files)];
    const { status, stdout, stderr } = await run(
      "out",
      { source, ...(file !== undefined && { params: { file } }) },
      { words },
    );
    expect({ status, stdout, stderr }).toEqual({
      status: 1,
      stdout: "",
      stderr: [expect.stringContaining(line as string)],
    });
  });

  test("a value that fits only without the build that puts it", async () => {
    const build = { ATC_EXTERNAL_URL: "https://ci.example.com", BUILD_ID: "7" };
    const request = { source, params: { value: "x".repeat(LARGEST) } };
    const { status, stderr } = await run("out", request, { words: [folder], env: build });
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: [expect.stringContaining(`more than a DynamoDB item may have (${LIMIT})`)],
    });
  });

  test("a value over 400 KB in params, whose characters have more bytes than one", async () => {
    const value = "é".repeat(LARGEST / 2 + 10);
    const { status, stderr } = await run("out", { source, params: { value } }, { words: [folder] });
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: [expect.stringContaining(`more than a DynamoDB item may have (${LIMIT})`)],
    });
  });

  test("a FIFO, without waiting for a writer", async () => {
    const sources = await sourcesWith({ "a/x": "1" });
    await Bun.$`mkfifo ${sources}/a/fifo`;
    const { status, stderr } = await run("out", { source, params: { file: "a/fifo" } }, { words: [sources] });
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: [expect.stringContaining("is not a regular file; only files are supported")],
    });
  });

  test("a sources directory that is not there", async () => {
    const { status, stderr } = await run("out", { source }, { words: [`${folder}/none`] });
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: [expect.stringContaining("cannot be read: it does not exist")],
    });
  });
});
