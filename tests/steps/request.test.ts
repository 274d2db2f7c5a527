import { describe, expect, test } from "bun:test";
import type { StepName, Steps } from "../support/step.ts";
import { describeSteps } from "../support/subjects.ts";

const source = { table_name: "packages-table", partition_key: "application", key: "my-app" };
const version = { value: "1", created: "2026-11-23T15:04:05.123Z" };
const SECRET = "marker-of-a-secret";

const requests: Record<StepName, { source: unknown; version?: unknown; params?: unknown }> = {
  check: { source },
  in: { source, version },
  out: { source, params: { value: "1" } },
};

/** Expects exit 1, nothing on stdout, exactly these lines on stderr (a text is how a line starts) and no secret in them. */
async function expectMistakes(
  { run }: Steps,
  step: StepName,
  request: unknown,
  lines: (string | RegExp)[],
  words?: string[],
): Promise<void> {
  const { status, stdout, stderr } = await run(step, request, {
    words: words ?? (step === "check" ? [] : ["/tmp"]),
  });
  expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
  expect(stderr).toEqual(
    lines.map((line): string =>
      typeof line === "string" ? expect.stringContaining(line) : expect.stringMatching(line),
    ),
  );
  expect(stderr.join("\n")).not.toContain(SECRET);
}

describeSteps("a request", (steps) => {
  describe.each<StepName>(["check", "in", "out"])("%s says what is wrong with", (step) => {
    const request = requests[step];

    test.each<[string, Record<string, unknown>, (string | RegExp)[]]>([
      ["no table_name", { table_name: undefined }, ["source.table_name: is missing"]],
      ["no partition_key", { partition_key: undefined }, ["source.partition_key: is missing"]],
      ["no key", { key: undefined }, ["source.key: is missing"]],
      ["a key that is null", { key: null }, ["source.key: is null"]],
      ["a key that is a number", { key: 5 }, ["source.key: is a number; a text in quotes"]],
      ["an empty key", { key: "" }, ["source.key: is empty"]],
      ["a key of 2049 bytes", { key: "é".repeat(1024) + "x" }, ["source.key: is longer than the 2048 bytes"]],
      ["a key with NUL", { key: "a\0b" }, ["source.key: has a NUL"]],
      ["a key with half a character", { key: "\ud83d" }, ["source.key: has half of a surrogate pair"]],
      ["a short table_name", { table_name: "ab" }, ["source.table_name: is no name of a DynamoDB table"]],
      ["a table_name with a blank", { table_name: "my table" }, ["source.table_name: is no name"]],
      ["a table_name that is a list", { table_name: ["x"] }, ["source.table_name: is a list"]],
      ["an empty partition_key", { partition_key: "" }, ["source.partition_key: is empty"]],
      [
        "a long partition_key",
        { partition_key: "x".repeat(256) },
        ["source.partition_key: is longer than the 255"],
      ],
      ...["created", "value", "put_id", "put_next", "put_build"].map(
        (name): [string, Record<string, unknown>, string[]] => [
          `the partition_key ${name}`,
          { partition_key: name },
          ["source.partition_key: is an attribute of the resource's own"],
        ],
      ),
      ["a region with a dot", { region: "eu.west" }, ["source.region: is no AWS region"]],
      ["a region that is an object", { region: {} }, ["source.region: is an object"]],
      ["access_key alone", { access_key: "AKIA" }, ["source.secret_key: is missing"]],
      ["secret_key alone", { secret_key: SECRET }, ["source.access_key: is missing"]],
      ["session_token alone", { session_token: SECRET }, ["source.session_token: is of no use"]],
      [
        "a secret with a newline",
        { access_key: "AKIA", secret_key: `${SECRET}\n` },
        ["source.secret_key: is empty, or has"],
      ],
      [
        "an access_key that is a number",
        { access_key: 1, secret_key: SECRET },
        ["source.access_key: is a number"],
      ],
      [
        "an endpoint without scheme",
        { endpoint: "localhost:8000" },
        ["source.endpoint: is no http or https URL"],
      ],
      [
        "an endpoint with a password",
        { endpoint: `http://me:${SECRET}@localhost` },
        ["source.endpoint: is no http"],
      ],
      ["an endpoint of a file", { endpoint: "file:///etc" }, ["source.endpoint: is no http"]],
      [
        "an initial_value that YAML read",
        { initial_value: 1.1 },
        ["source.initial_value: is a number; a text in quotes"],
      ],
      ["history 0", { history: 0 }, ["source.history: a whole number of at least 1"]],
      ["history -1 as text", { history: "-1" }, ["source.history: is a text; a whole number of at least 1"]],
      ["history 1.5", { history: 1.5 }, ["source.history: a whole number of at least 1"]],
      ["history true", { history: true }, ["source.history: is a boolean; a whole number"]],
      ["keep as a word", { keep: "many" }, ["source.keep: is a text; a whole number of at least 1"]],
      [
        "ca_certs as one text",
        { ca_certs: "-----BEGIN CERTIFICATE-----" },
        ["source.ca_certs: is a text; a list"],
      ],
      ["ca_certs of no PEM", { ca_certs: ["x"] }, ["source.ca_certs.0: is no PEM certificate"]],
      [
        "ca_certs whose lines were folded",
        { ca_certs: ["-----BEGIN CERTIFICATE----- MIIB -----END CERTIFICATE-----"] },
        ["source.ca_certs.0: is no PEM certificate; its lines have to be kept"],
      ],
      [
        "ca_certs with a damaged one",
        { ca_certs: ["-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"] },
        ["source.ca_certs.0: is no PEM certificate"],
      ],
      ["a misspelt field", { regoin: "x" }, ["source.regoin: is unknown; the nearest known field is region"]],
      ["a field of another case", { Key: "x" }, ["source.Key: is unknown; the nearest known field is key"]],
      ["a field named like a method", { constructor: 1 }, ["source.constructor: is unknown"]],
      ["a field with a newline", { "a\nb": 1 }, [`source."a\\nb": is unknown`]],
      [
        "all of it at once",
        { table_name: 5, key: undefined, tabel: 1, history: "x", secret_key: SECRET },
        [
          "source.table_name: is a number",
          "source.key: is missing",
          "source.history: is a text; a whole number",
          "source.access_key: is missing",
          "source.tabel: is unknown; the nearest known field is table_name",
        ],
      ],
    ])("%s", async (_, fields, lines) => {
      await expectMistakes(steps, step, { ...request, source: { ...source, ...fields } }, lines);
    });

    test.each<[string, unknown, string[]]>([
      ["no input", "", ["request: stdin is empty"]],
      ["no JSON", `{"secret_key": "${SECRET}"`, ["request: stdin is not one JSON document"]],
      ["two documents", "{}{}", ["request: stdin is not one JSON document"]],
      ["Latin-1", Buffer.from([0x22, 0xe9, 0x22]), ["request: stdin is not UTF-8"]],
      ["a list", [], ["request: is a list; a JSON object is needed"]],
      ["null", null, ["request: is null; a JSON object"]],
      ["a text", `"${SECRET}"`, ["request: is a text; a JSON object"]],
      ["source that is a text", { ...request, source: SECRET }, ["source: is a text; an object"]],
    ])("%s", async (_, document, lines) => {
      const { status, stdout, stderr } = await steps.run(step, document, {
        words: step === "check" ? [] : ["/tmp"],
      });
      expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
      expect(stderr).toEqual(lines.map((line): string => expect.stringContaining(line)));
      expect(stderr.join("\n")).not.toContain(SECRET);
    });

    test("an unknown option, or the wrong number of words", async () => {
      await expectMistakes(
        steps,
        step,
        request,
        [`${step} knows no option --verbose; try ${step} --help`],
        ["--verbose"],
      );
      await expectMistakes(steps, step, request, [`${step} takes `], ["/tmp", "/tmp"]);
      await expectMistakes(steps, step, request, [`${step} takes `], step === "check" ? ["/tmp"] : []);
    });
  });

  describe("params of out:", () => {
    test.each<[string, unknown, (string | RegExp)[]]>([
      [
        "a number that JSON does not hold exactly",
        { value: 2 ** 53 },
        ["params.value: is a number; a text in quotes"],
      ],
      ["a number with a fraction", { value: 1.1 }, ["params.value: is a number; a text in quotes"]],
      ["true", { value: true }, ["params.value: is a boolean; a text in quotes"]],
      ["null", { value: null }, ["params.value: is null; a text in quotes"]],
      ["a list", { value: ["1"] }, ["params.value: is a list; a text in quotes"]],
      ["an object", { value: {} }, ["params.value: is an object; a text in quotes"]],
      ["NUL", { value: "a\0b" }, ["params.value: has a NUL"]],
      ["half a character", { value: "a\udc00b" }, ["params.value: has half of a surrogate pair"]],
      [
        "file and value",
        { value: "1", file: "a/b" },
        ["params: only one of file, value and directory can say what to put"],
      ],
      ["an empty file", { file: "" }, ["params.file: is empty"]],
      ["a file that is a number", { file: 1 }, ["params.file: is a number"]],
      [
        "skip_unchanged that is a word",
        { value: "1", skip_unchanged: "yes" },
        ["params.skip_unchanged: is a text; true or false"],
      ],
      [
        "skip_unchanged that is a number",
        { value: "1", skip_unchanged: 1 },
        ["params.skip_unchanged: is a number"],
      ],
      [
        "an unknown one",
        { value: "1", skip: true },
        ["params.skip: is unknown; the nearest known field is skip_unchanged"],
      ],
      ["a text", SECRET, ["params: is a text; an object"]],
      ["a list", [], ["params: is a list; an object"]],
    ])("%s", async (_, params, lines) => {
      await expectMistakes(steps, "out", { source, params }, lines);
    });
  });

  describe("params and version of in:", () => {
    test.each<[string, unknown, string[]]>([
      ["a folder up", { file: "../x" }, ["params.file: is no plain name of a file"]],
      ["an absolute path", { file: "/etc/passwd" }, ["params.file: is no plain name of a file"]],
      ["a folder", { file: "a/b" }, ["params.file: is no plain name of a file"]],
      ["a dot", { file: "." }, ["params.file: is no plain name of a file"]],
      ["two dots", { file: ".." }, ["params.file: is no plain name of a file"]],
      ["NUL", { file: "a\0b" }, ["params.file: is no plain name of a file"]],
      ["nothing", { file: "" }, ["params.file: is no plain name of a file"]],
      [
        "version.json",
        { file: "version.json" },
        ["params.file: is the name of the file that holds the whole version"],
      ],
      ["an unknown one", { flie: "x" }, ["params.flie: is unknown; the nearest known field is file"]],
    ])("%s", async (_, params, lines) => {
      await expectMistakes(steps, "in", { source, version, params }, lines);
    });

    test.each<[string, unknown, string[]]>([
      ["none", undefined, ["version: is missing"]],
      ["null", null, ["version: is null"]],
      ["no value", { created: version.created }, ["version.value: is missing"]],
      ["no created", { value: "1" }, ["version.created: is missing"]],
      ["neither", {}, ["version.value: is missing", "version.created: is missing"]],
      ["a number", { ...version, value: 1 }, ["version.value: is a number"]],
    ])("version %s", async (_, given, lines) => {
      await expectMistakes(steps, "in", { source, version: given }, lines);
    });
  });

  describe.each<StepName>(["check", "in", "out"])("%s in a shell", (step) => {
    test.each(["--help", "-h"])("answers %s", async (option) => {
      const { status, stdout, stderr } = await steps.run(step, "", { words: [option] });
      expect({ status, stderr }).toEqual({ status: 0, stderr: [] });
      expect(stdout).toContain(`usage: ${step}`);
      for (const field of ["table_name", "partition_key", "key", "region", "endpoint", "keep"])
        expect(stdout).toContain(`  ${field} `);
    });

    test("answers --version", async () => {
      const { default: manifest } = await import("../../package.json");
      expect(await steps.run(step, "", { words: ["--version"] })).toEqual({
        status: 0,
        stdout: `${manifest.version}\n`,
        stderr: [],
      });
    });
  });
});
