import { afterAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import type { Answer } from "../support/step.ts";
import { describeSteps } from "../support/subjects.ts";

const folder = await mkdtemp(`${tmpdir()}/in-`);
afterAll(() => rm(folder, { recursive: true }));

let destinations = 0;
const nextDestination = () => `${folder}/${++destinations}`;

// No connection is opened: nothing listens at this endpoint.
const source = {
  table_name: "packages-table",
  partition_key: "application",
  key: "my-app",
  endpoint: "http://127.0.0.1:1",
};

async function filesIn(destination: string): Promise<Record<string, string>> {
  const names = (await readdir(destination)).toSorted();
  return Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await readFile(`${destination}/${name}`, "utf8")])),
  );
}

describeSteps("in", ({ run, answerOf }) => {
  test.each<[string, string]>([
    ["plain", "package-1.2"],
    ["empty", ""],
    ["with quotes and backslashes", `"'\\n\\"`],
    ["of several lines", "a\nb\r\nc\n"],
    ["with a byte-order mark", "\ufeffx"],
    ["with characters of every size", "é漢🔑"],
    ["of 300 KB", "0123456789".repeat(30_000)],
  ])("writes a value %s exactly", async (_, value) => {
    const destination = `${nextDestination()}/not/there/yet`;
    const version = { value, created: "2026-11-23T15:04:05.123Z" };
    const answer = await answerOf<Answer>("in", { source, version }, { words: [destination] });
    expect(answer.version).toEqual(version);
    expect(await filesIn(destination)).toEqual({
      "version.json": `${JSON.stringify(version)}\n`,
      "version.txt": `${value}\n`,
    });
  });

  test("tells about the version by version, params and source alone", async () => {
    const request = {
      source: { ...source, region: "eu-west-1" },
      version: { value: `${"é".repeat(511)}x🔑`, created: "12/12/2023 18:02:04", other: "field" },
      params: null,
    };
    const expected = {
      version: { value: request.version.value, created: request.version.created },
      metadata: [
        { name: "key", value: "my-app" },
        { name: "preview", value: `${"é".repeat(511)}x` },
        { name: "created", value: "12/12/2023 18:02:04" },
        { name: "size", value: "1027" },
        { name: "table", value: "packages-table" },
        { name: "region", value: "eu-west-1" },
      ],
    };
    const words = [nextDestination()];
    expect(await answerOf<unknown>("in", request, { words })).toEqual(expected);
    const withoutRegion = { ...request, source };
    expect(
      await answerOf<unknown>("in", withoutRegion, { words, env: { AWS_REGION: "eu-north-1" } }),
    ).toEqual({
      ...expected,
      metadata: expected.metadata.slice(0, -1),
    });
  });

  test("names the value's file as params say", async () => {
    const destination = nextDestination();
    const version = { value: "1", created: "2026-11-23T15:04:05.123Z" };
    await run("in", { source, version, params: { file: "my version…" } }, { words: [destination] });
    expect(Object.keys(await filesIn(destination))).toEqual(["my version…", "version.json"]);
  });

  test("replaces what is in the destination, and follows no link out of it", async () => {
    const destination = nextDestination();
    await mkdir(destination);
    await writeFile(`${folder}/outside`, "untouched");
    await symlink(`${folder}/outside`, `${destination}/version.txt`);
    await writeFile(
      `${destination}/version.json`,
      "a longer text than that of the version that replaces it ".repeat(9),
    );
    const version = { value: "1", created: "2026-11-23T15:04:05.123Z" };
    await answerOf("in", { source, version }, { words: [destination] });
    expect(await filesIn(destination)).toEqual({
      "version.json": `${JSON.stringify(version)}\n`,
      "version.txt": "1\n",
    });
    expect(await readFile(`${folder}/outside`, "utf8")).toBe("untouched");
  });

  test("says what it cannot write", async () => {
    const destination = nextDestination();
    await mkdir(`${destination}/version.txt`, { recursive: true });
    const version = { value: "1", created: "2026-11-23T15:04:05.123Z" };
    const { status, stdout, stderr } = await run("in", { source, version }, { words: [destination] });
    expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
    expect(stderr).toEqual([`${destination}/version.txt cannot be written: it is a directory`]);
  });
});
