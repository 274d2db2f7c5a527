import { afterAll, expect, test } from "bun:test";
import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname } from "node:path";
import type { AttributeValue } from "@aws-sdk/client-dynamodb";
import { awsError, startProxy } from "../support/proxy.ts";
import { type Answer, dist, unreachable, type Version } from "../support/step.ts";
import { describeSteps, describeSubjects } from "../support/subjects.ts";

const words = ["/tmp"];
const version = { value: "1", created: "2026-11-23T15:04:05.123Z" };

const folder = await mkdtemp(`${tmpdir()}/hostile-`);
afterAll(() => rm(folder, { recursive: true }));

/** A folder with files in it; a content that is a list is the target of a link. */
async function folderWith(files: Record<string, string | [string]>): Promise<string> {
  const path = await mkdtemp(`${folder}/x-`);
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(`${path}/${name}`), { recursive: true });
    if (Array.isArray(content)) await symlink(content[0], `${path}/${name}`);
    else await writeFile(`${path}/${name}`, content);
  }
  return path;
}

const ODD_NAMES = {
  "with a newline": "a\nb",
  "with quotes": `it's "quoted"`,
  "with a backslash": "a\\nb",
  "with an emoji": "🔑",
  "with what a shell reads": " --$HOME`id`;&|*?[a]{b,c}~ ",
  "with an escape sequence": "\u001b[31mred",
  "with a part of a URL": "file:%2e%2e?x#y",
  "of 255 bytes": `${"é".repeat(127)}x`,
};

/** Texts that are no time, before, among and after those that are. */
const ODD_CREATED = [
  "!",
  "0",
  "01/01/2026",
  "02/30/2026 00:00:00",
  "12/31/2026 24:00:00",
  "13",
  "13/01/2026 00:00:00",
  "2",
  "2026",
  "2026-01-01 00:00:00.000",
  "2026-01-01T00:00:00Z",
  "2026-01-01T00:00:00.000000Z",
  "2026-01-01T00:00:00.000z",
  "2026-02-30T00:00:00.000Z",
  "2026-01-01T24:00:00.000Z",
  "2026-01-02T00:00:00.000Z\n",
  "2026-01-02T00:00:00.000Z x",
  "9",
  "undefined",
  "~",
  "🔑",
];

describeSubjects("hostile tables:", ({ createTable, run, answerOf }) => {
  test.each([
    ["with a newline", "a\nb", "a\nb"],
    ["with quotes", `it's "quoted"`, `it's "quoted"`],
    ["with a backslash", "a\\nb", "a\\nb"],
    ["with blanks and an emoji", " 🔑 ", " 🔑 "],
    ["like expressions", "#put_next", ":key OR attribute_exists(#key) --"],
    ["like a prototype's", "constructor", "__proto__"],
    ["of 255 and 2048 bytes", `${"é".repeat(127)}x`, `${"é漢🔑".repeat(227)}12345`],
  ])("a partition key and a key %s", async (_, partitionKey, key) => {
    await using table = await createTable({ partitionKey });
    const source = { ...table.source, key, keep: 1 };
    const put = async (value: string) => {
      const request = { source, params: { value, skip_unchanged: true } };
      return (await answerOf<Answer>("out", request, { words })).version;
    };
    const versions = [await put("1"), await put("2")];
    expect(await put("2")).toEqual(versions[1]!);
    expect(await answerOf<unknown>("check", { source, version: versions[0] })).toEqual(versions);
    expect(await table.items()).toEqual(
      versions.map(({ value, created }) => ({
        [partitionKey]: key,
        created,
        value,
        put_id: expect.any(String),
      })),
    );
  });

  const longNumber = "-12345678901234567890123456789012345678";

  test.each<[string, AttributeValue, string | undefined]>([
    ["an empty S", { S: "" }, ""],
    ["S", { S: "[object Object]" }, "[object Object]"],
    ["N", { N: "42" }, "42"],
    ["N of 38 digits", { N: longNumber }, longNumber],
    ["B", { B: Buffer.from("1") }, undefined],
    ["BOOL", { BOOL: false }, undefined],
    ["NULL", { NULL: true }, undefined],
    ["M", { M: { S: { S: "1" }, value: { S: "1" } } }, undefined],
    ["L", { L: [{ S: "1" }] }, undefined],
    ["SS", { SS: ["1"] }, undefined],
    ["NS", { NS: ["1"] }, undefined],
    ["BS", { BS: [Buffer.from("1")] }, undefined],
  ])("a newest item whose value is %s", async (_, value, text) => {
    await using table = await createTable();
    const { source } = table;
    const created = "2026-01-01T00:00:00.000Z";
    await table.add({ created, value: { value } });
    const readable = text === undefined ? [] : [{ value: text, created }];

    const checked = await run("check", { source });
    expect({ status: checked.status, answer: JSON.parse(checked.stdout) }).toEqual({
      status: 0,
      answer: readable,
    });
    expect(checked.stderr).toEqual(
      text === undefined ? [expect.stringMatching(/^warning: .*is skipped: its value is neither/)] : [],
    );

    // What no text is, is the same as none.
    const request = { source, params: { value: text ?? "1", skip_unchanged: true } };
    const put = await answerOf<Answer>("out", request, { words });
    expect(put.version).toEqual({
      value: text ?? "1",
      created: text === undefined ? expect.not.stringMatching(created) : created,
    });
    expect(await table.items()).toHaveLength(text === undefined ? 2 : 1);
  });

  test("`created` that is no time among good ones: check, out and keep go by the good ones", async () => {
    await using table = await createTable();
    await table.add(...ODD_CREATED.map((created) => ({ created, value: "odd" })));
    const good = [
      "12/31/2025 00:00:00",
      "2026-01-01T00:00:00.000Z",
      "01/02/2026 00:00:00",
      "2026-01-03T00:00:00.000Z",
    ].map((created, index) => ({ created, value: `${index}` }));
    await table.add(...good);
    const { source } = table;
    const cursors: [object, Version[]][] = [
      [{ source }, good],
      [{ source: { ...source, history: 3 } }, good.slice(1)],
      [{ source, version: good[1] }, good.slice(1)],
      [{ source, version: good[3] }, good.slice(3)],
      [{ source, version: { created: ODD_CREATED[0] } }, good.slice(3)],
      [{ source, version: { created: ODD_CREATED.at(-1) } }, good.slice(3)],
    ];
    for (const [request, versions] of cursors) {
      const { status, stdout, stderr } = await run("check", request);
      expect({ request, status, answer: JSON.parse(stdout) }).toEqual({
        request,
        status: 0,
        answer: versions,
      });
      const isWarning = (line: string) =>
        line.includes("is not a valid timestamp (example") ||
        /^warning: .* with created ".*" is skipped: its created is not/.test(line);
      expect(stderr.filter((line) => !isWarning(line))).toEqual([]);
    }

    const put = { source: { ...source, keep: 2 }, params: { value: "new" } };
    const { status, stdout, stderr } = await run("out", put, { words });
    expect({ status, stderr }).toEqual({ status: 0, stderr: [] });
    const { version: newest }: Answer = JSON.parse(stdout);
    const left = new Set((await table.items()).map(({ created }) => created));
    expect(left).toEqual(new Set([...ODD_CREATED, good[3]!.created, newest.created]));
  });

  test("5,000 items", async () => {
    await using table = await createTable();
    const items = Array.from({ length: 5000 }, (_, index) => ({
      created: new Date(Date.UTC(2026, 0) + index * 1000).toISOString(),
      value: `${index}`,
    }));
    await table.add(...items);
    const { source } = table;
    const cases: [object, Version[]][] = [
      [{ source }, items.slice(-1000)],
      [{ source: { ...source, history: "5000" } }, items],
      [{ source, version: items[0] }, items],
      [{ source, version: items[4990] }, items.slice(4990)],
    ];
    for (const [request, versions] of cases) {
      expect(await answerOf<unknown>("check", request)).toEqual(versions);
    }
    const put = { source: { ...source, keep: 4990 }, params: { value: "new" } };
    const { version: newest } = await answerOf<Answer>("out", put, { words });
    expect(await answerOf<unknown>("check", { source: put.source, version: items[0] })).toEqual([
      ...items.slice(11),
      newest,
    ]);
  });
});

describeSteps("the command that makes a missing table", ({ run }) => {
  test("can be pasted into a shell, whatever is in names", async () => {
    await using proxy = startProxy(unreachable.endpoint, () =>
      awsError("ResourceNotFoundException", "not found"),
    );
    const partitionKey = ` --it's "a\\n" $HOME\`id\`$(id);&|*?[a]{b,c}~🔑 `;
    const source = { ...unreachable, partition_key: partitionKey, endpoint: `${proxy.endpoint}/it's;$(id)` };
    const { stderr } = await run("check", { source });
    const [, pasted] = /create it: (aws dynamodb create-table .*)$/.exec(stderr.join("\n")) ?? [];
    const shown = await Bun.$`sh -c ${`aws() { printf '%s\\n' "$@"; }; ${pasted}`}`.text();
    const pastedWords = shown.split("\n");
    expect(pastedWords).toContain(source.endpoint);
    // As JSON, since the AWS CLI's shorthand gives commas, quotes and brackets a meaning.
    expect(pastedWords.filter((word) => word.startsWith("[")).map((word) => JSON.parse(word))).toEqual([
      [
        { AttributeName: partitionKey, AttributeType: "S" },
        { AttributeName: "created", AttributeType: "S" },
      ],
      [
        { AttributeName: partitionKey, KeyType: "HASH" },
        { AttributeName: "created", KeyType: "RANGE" },
      ],
    ]);
  });
});

// Bun's realpath takes a backslash for a slash.
const readableNames = Object.entries(ODD_NAMES).filter(([, name]) => !name.includes("\\"));

describeSubjects("out reads", ({ createTable, run, answerOf }) => {
  test.each(readableNames)("a file and an input with names %s", async (_, name) => {
    await using table = await createTable();
    const { source } = table;
    const sources = await folderWith({ [`${name}/version.txt`]: "default", [`${name}/${name}`]: "named" });
    const requests = [{ source }, { source, params: { file: `${name}/${name}` } }];
    for (const request of requests) await answerOf("out", request, { words: [sources] });
    expect((await table.items()).map(({ value }) => value)).toEqual(["default", "named"]);
  });

  const links = Object.fromEntries(
    Array.from({ length: 30 }, (_, index): [string, [string]] => [`a/${index}`, [`./${index + 1}`]]),
  );

  test.each<[string, Record<string, string | [string]>, string]>([
    ["a file that is 500 folders deep", { [`${"deep/".repeat(500)}x`]: "1" }, `${"deep/".repeat(500)}x`],
    ["a file at the end of 30 links", { ...links, "a/30": "1" }, "a/0"],
    ["a file through links to the sources directory itself", { "a/up": [".."], "a/x": "1" }, "a/up/a/up/a/x"],
    ["a link by an absolute path that stays inside", { "b/x": "1" }, "b/link"],
  ])("%s", async (_, files, file) => {
    await using table = await createTable();
    const sources = await folderWith(files);
    if (file === "b/link") await symlink(`${sources}/b/x`, `${sources}/b/link`);
    const request = { source: table.source, params: { file } };
    expect((await answerOf<Answer>("out", request, { words: [sources] })).version.value).toBe("1");
  });

  test.each([10, 1000, 100_000])("a file that grows by %d bytes at a time, or refuses it", async (bytes) => {
    await using table = await createTable();
    const sources = await folderWith({ "a/x": "" });
    const piece = `${"0123456789".repeat(bytes / 10).slice(1)}\n`;
    let written = "";
    const over = new AbortController();
    const grow = async () => {
      // The limit keeps a test that hangs from filling the disk.
      while (!over.signal.aborted && written.length < 50_000_000) {
        // Known before it can be read.
        written += piece;
        await appendFile(`${sources}/a/x`, piece);
      }
    };
    const growth = grow();
    for (let round = 0; round < 3; round++) {
      const request = { source: table.source, params: { file: "a/x" } };
      const { status, stdout, stderr } = await run("out", request, { words: [sources] });
      if (status === 0) {
        const { value } = (JSON.parse(stdout) as Answer).version;
        expect({ value, isPrefix: written.startsWith(value) }).toEqual({ value, isPrefix: true });
      } else {
        const refusal = expect.stringMatching(/ is too large: \d+ bytes, \d+ more than/);
        expect({ status, stdout, stderr }).toEqual({ status: 1, stdout: "", stderr: [refusal] });
      }
    }
    over.abort();
    await growth;
  });
});

describeSteps("out refuses", ({ run }) => {
  const outside = `${folder}/outside`;

  test.each<[string, Record<string, string | [string]>, string | undefined, string]>([
    ["a link to a folder outside", { "a/link": [folder] }, "a/link", "is a symbolic link that leads outside"],
    [
      "an input that is a link to a folder outside",
      { input: [outside] },
      undefined,
      "is a symbolic link that leads outside",
    ],
    [
      "a chain of links that ends outside",
      { "a/1": ["2"], "a/2": ["3"], "a/3": [`${outside}/version.txt`] },
      "a/1",
      "is a symbolic link that leads outside",
    ],
    [
      "a link up and down again, into a neighbour",
      { "a/link": ["../../outside/version.txt"] },
      "a/link",
      "is a symbolic link that leads outside",
    ],
    [
      "the environment",
      { "a/link": ["/proc/self/environ"] },
      "a/link",
      "is a symbolic link that leads outside",
    ],
    [
      "the environment, through a link to /proc",
      { "a/link": ["/proc"] },
      "a/link/self/environ",
      "is a symbolic link that leads outside",
    ],
    [
      "its own root folder",
      { "a/link": ["/proc/self/root"] },
      "a/link/etc/passwd",
      "is a symbolic link that leads outside",
    ],
    ["its own request", { "a/link": ["/dev/stdin"] }, "a/link", "params.file: "],
    [
      "links in a circle",
      { "a/1": ["2"], "a/2": ["../b/3"], "b/3": ["../a/1"] },
      "a/1",
      "cannot be read: ELOOP",
    ],
    [
      "an input that links to itself",
      { input: ["input"] },
      undefined,
      "no version.txt at the top level of an input",
    ],
    [
      "a version.txt that links to itself",
      { "a/version.txt": ["version.txt"] },
      undefined,
      "cannot be read: ELOOP",
    ],
    ["a name of 256 bytes", { "a/x": "1" }, `a/${"x".repeat(256)}`, "cannot be read: ENAMETOOLONG"],
    ["a path of 5,000 bytes", { "a/x": "1" }, "deep/".repeat(1000), "cannot be read: ENAMETOOLONG"],
    ["a name with half of a character", { "a/x": "1" }, "a/\ud83d", "does not exist"],
    [
      "what is missing beside inputs with odd names",
      Object.fromEntries(Object.values(ODD_NAMES).map((name) => [`${name}/x`, "1"])),
      "a/x",
      String.raw`"a\nb", "a\\nb", "file:%2e%2e?x#y", "it's \"quoted\"", `,
    ],
  ])("%s", async (_, files, file, line) => {
    await mkdir(outside, { recursive: true });
    await writeFile(`${outside}/version.txt`, "marker-of-outside");
    const sources = await folderWith(files);
    const request = { source: unreachable, ...(file !== undefined && { params: { file } }) };
    const { status, stdout, stderr } = await run("out", request, { words: [sources] });
    expect({ status, stdout, stderr }).toEqual({
      status: 1,
      stdout: "",
      stderr: [expect.stringMatching(/^(params|no value to put)\P{Cc}+$/u)],
    });
    expect(stderr[0]).toContain(line);
    expect(stderr[0]).not.toContain("marker");
  });

  test("a socket", async () => {
    const sources = await folderWith({ "a/x": "1" });
    using _ = Bun.listen({ unix: `${sources}/a/socket`, socket: { data: () => {} } });
    const request = { source: unreachable, params: { file: "a/socket" } };
    const { status, stderr } = await run("out", request, { words: [sources] });
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: [expect.stringMatching(/^params\.file: "a\/socket" (cannot be read: E|is no regular file)/)],
    });
  });
});

// From dist alone: from outside, a container's files cannot be changed as fast.
test("a file that becomes a link outside while it is opened is not read", async () => {
  const path = await folderWith({ outside: "", "sources/a/x": "" });
  // What is read tells itself by what is wrong with it.
  await writeFile(`${path}/inside`, "\0");
  await writeFile(`${path}/outside`, new Uint8Array([0xff]));
  const script = `
    const { linkSync, renameSync, symlinkSync } = require("node:fs");
    for (;;) {
      linkSync("inside", "next");
      renameSync("next", "sources/a/x");
      symlinkSync("${path}/outside", "next");
      renameSync("next", "sources/a/x");
    }`;
  const swapping = Bun.spawn([process.execPath, "-e", script], { cwd: path });
  const reasons = new Set<string>();
  try {
    const request = { source: unreachable, params: { file: "a/x" } };
    for (let round = 0; round < 100; round++) {
      const { stderr } = await dist.run("out", request, { words: [`${path}/sources`] });
      reasons.add(stderr.join());
    }
  } finally {
    swapping.kill();
    await swapping.exited;
  }
  expect(reasons).toContain('params.file: "a/x" contains a NUL character, which Concourse cannot store');
  expect([...reasons].filter((reason) => reason.includes("UTF-8"))).toEqual([]);
});

describeSteps("in", ({ run, answerOf }) => {
  const got = async (path: string) =>
    Object.fromEntries(
      await Promise.all(
        (await readdir(path)).map(async (name) => [name, await readFile(`${path}/${name}`, "utf8")]),
      ),
    );
  const json = `${JSON.stringify(version)}\n`;

  test("writes into a folder that its destination is a link to", async () => {
    const there = await folderWith({ "there/x": "x", destination: ["there"] });
    await answerOf("in", { source: unreachable, version }, { words: [`${there}/destination`] });
    expect(await got(`${there}/there`)).toEqual({ x: "x", "version.txt": "1\n", "version.json": json });
  });

  test.each(Object.entries(ODD_NAMES))("writes a file and into a folder with names %s", async (_, name) => {
    const destination = `${await folderWith({})}/${name}`;
    const request = { source: unreachable, version, params: { file: name } };
    await answerOf("in", request, { words: [destination] });
    expect(await got(destination)).toEqual({ [name]: "1\n", "version.json": json });
  });

  test.each<[string, Record<string, string | [string]>, string | undefined, string]>([
    ["a destination that is a file", { destination: "x" }, undefined, "ENOTDIR"],
    ["a destination in a file", { destination: "x" }, "destination/deeper", "ENOTDIR"],
    ["a destination that links to itself", { destination: ["destination"] }, undefined, "ELOOP"],
    ["a destination with a name of 256 bytes", {}, "x".repeat(256), "ENAMETOOLONG"],
  ])("says in one line that it cannot write into %s", async (_, files, destination = "destination", code) => {
    const there = await folderWith(files);
    const { status, stdout, stderr } = await run(
      "in",
      { source: unreachable, version },
      { words: [`${there}/${destination}`] },
    );
    expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
    expect(stderr).toEqual([
      expect.stringMatching(new RegExp(`^/.*/version\\.(txt|json) cannot be written: ${code}$`)),
    ]);
  });

  test("says in one line that a file's name is too long", async () => {
    const request = { source: unreachable, version, params: { file: "x".repeat(256) } };
    const { status, stdout, stderr } = await run("in", request, { words: [await folderWith({})] });
    expect({ status, stdout, stderr }).toEqual({
      status: 1,
      stdout: "",
      stderr: [expect.stringMatching(/x cannot be written: ENAMETOOLONG$/)],
    });
  });

  test.each<[string, string]>([
    ["a file", "outside"],
    ["a folder", "."],
    ["nothing", "nothing"],
  ])("replaces what links to %s outside, and leaves that alone", async (_, target) => {
    const there = await folderWith({
      outside: "untouched",
      "destination/my-file": [`../${target}`],
      "destination/version.json": [`../${target}`],
    });
    const request = { source: unreachable, version, params: { file: "my-file" } };
    await answerOf("in", request, { words: [`${there}/destination`] });
    expect(await got(`${there}/destination`)).toEqual({ "my-file": "1\n", "version.json": json });
    expect((await readdir(there)).toSorted()).toEqual(["destination", "outside"]);
    expect(await readFile(`${there}/outside`, "utf8")).toBe("untouched");
  });
});
