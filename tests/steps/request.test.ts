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
      ["no table_name", { table_name: undefined }, ["source.table_name is required"]],
      ["no partition_key", { partition_key: undefined }, ["source.partition_key is required"]],
      ["no key", { key: undefined }, ["source.key is required"]],
      ["a key that is null", { key: null }, ["source.key must be a quoted string, got null"]],
      ["a key that is a number", { key: 5 }, ["source.key must be a quoted string, got a number"]],
      ["an empty key", { key: "" }, ["source.key must not be empty"]],
      [
        "a key of 2049 bytes",
        { key: "é".repeat(1024) + "x" },
        ["source.key must not be longer than 2048 bytes, DynamoDB's limit for a partition key"],
      ],
      [
        "a key with NUL",
        { key: "a\0b" },
        ["source.key contains a NUL character, which Concourse cannot store"],
      ],
      [
        "a key with half a character",
        { key: "\ud83d" },
        ["source.key contains half of a surrogate pair, which UTF-8 cannot encode"],
      ],
      [
        "a short table_name",
        { table_name: "ab" },
        [
          'source.table_name: "ab" is not a valid table name (3 to 255 letters, digits, dots, dashes, underscores) or table ARN',
        ],
      ],
      [
        "a table_name with a blank",
        { table_name: "my table" },
        [
          'source.table_name: "my table" is not a valid table name (3 to 255 letters, digits, dots, dashes, underscores) or table ARN',
        ],
      ],
      [
        "a table_name that is a list",
        { table_name: ["x"] },
        ["source.table_name must be a quoted string, got an array"],
      ],
      ["an empty partition_key", { partition_key: "" }, ["source.partition_key must not be empty"]],
      [
        "a long partition_key",
        { partition_key: "x".repeat(256) },
        ["source.partition_key must not be longer than 255 bytes, DynamoDB's limit for an attribute's name"],
      ],
      ...["created", "value", "put_id", "put_next", "put_build"].map(
        (name): [string, Record<string, unknown>, string[]] => [
          `the partition_key ${name}`,
          { partition_key: name },
          [
            "source.partition_key must not be an attribute that this resource uses itself (created, value, put_id, put_next, put_build)",
          ],
        ],
      ),
      [
        "a region with a dot",
        { region: "eu.west" },
        ['source.region: "eu.west" is not a valid AWS region (example: eu-west-1)'],
      ],
      [
        "a region that is an object",
        { region: {} },
        ["source.region must be a quoted string, got an object"],
      ],
      ["access_key alone", { access_key: "AKIA" }, ["source.secret_key is required with access_key"]],
      ["secret_key alone", { secret_key: SECRET }, ["source.access_key is required with secret_key"]],
      [
        "session_token alone",
        { session_token: SECRET },
        ["source.session_token requires access_key and secret_key"],
      ],
      [
        "a secret with a newline",
        { access_key: "AKIA", secret_key: `${SECRET}\n` },
        [
          "source.secret_key must not be empty or contain white space or non-ASCII characters (a newline at its end?)",
        ],
      ],
      [
        "an access_key that is a number",
        { access_key: 1, secret_key: SECRET },
        ["source.access_key must be a quoted string, got a number"],
      ],
      [
        "an endpoint without scheme",
        { endpoint: "localhost:8000" },
        ["source.endpoint must start with http:// or https://"],
      ],
      [
        "an endpoint with a password",
        { endpoint: `http://me:${SECRET}@localhost` },
        ["source.endpoint must be a URL without user, query and fragment"],
      ],
      [
        "an endpoint of a file",
        { endpoint: "file:///etc" },
        ["source.endpoint must start with http:// or https://"],
      ],
      [
        "an initial_value that YAML read",
        { initial_value: 1.1 },
        [
          "source.initial_value must be a quoted string (YAML reads 1.10 as 1.1 and yes as true), got a number",
        ],
      ],
      ["history 0", { history: 0 }, ["source.history must be a whole number of at least 1, got 0"]],
      [
        "history -1 as text",
        { history: "-1" },
        ['source.history must be a whole number of at least 1, got "-1"'],
      ],
      ["history 1.5", { history: 1.5 }, ["source.history must be a whole number of at least 1, got 1.5"]],
      [
        "history true",
        { history: true },
        ["source.history must be a whole number of at least 1, got a boolean"],
      ],
      ["keep as a word", { keep: "many" }, ['source.keep must be a whole number of at least 1, got "many"']],
      [
        "ca_certs as one text",
        { ca_certs: "-----BEGIN CERTIFICATE-----" },
        ["source.ca_certs must be an array of PEM certificates, got a string"],
      ],
      [
        "ca_certs of no PEM",
        { ca_certs: ["x"] },
        ["source.ca_certs[0] is not a PEM certificate; paste its text (YAML |), not a path"],
      ],
      [
        "ca_certs whose lines were folded",
        { ca_certs: ["-----BEGIN CERTIFICATE----- MIIB -----END CERTIFICATE-----"] },
        ["source.ca_certs[0] is not a PEM certificate; paste its text (YAML |), not a path"],
      ],
      [
        "ca_certs with a damaged one",
        { ca_certs: ["-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"] },
        ["source.ca_certs[0] is not a PEM certificate; paste its text (YAML |), not a path"],
      ],
      ["a misspelt field", { regoin: "x" }, ["source.regoin is not a field; did you mean region?"]],
      ["a field of another case", { Key: "x" }, ["source.Key is not a field; did you mean key?"]],
      [
        "a field named like a method",
        { constructor: 1 },
        [
          "source.constructor is not a field; the fields are table_name, partition_key, key, region, access_key, secret_key, session_token, profile, role_arn, external_id, role_session_name, endpoint, use_fips, use_dualstack, ca_certs, debug, initial_value, history, keep",
        ],
      ],
      [
        "other resources' names",
        { aws_secret_access_key: SECRET, access_key_id: "AKIA", region_name: "eu-west-1", table: "T" },
        [
          "source.aws_secret_access_key is not a field; did you mean secret_key?",
          "source.access_key_id is not a field; did you mean access_key?",
          "source.region_name is not a field; did you mean region?",
          "source.table is not a field; did you mean table_name?",
        ],
      ],
      [
        "a field with a newline",
        { "a\nb": 1 },
        [`source."a\\nb" is not a field; the fields are table_name, `],
      ],
      [
        "all of it at once",
        { table_name: 5, key: undefined, tabel: 1, history: "x", secret_key: SECRET },
        [
          "source.table_name must be a quoted string, got a number",
          "source.key is required",
          'source.history must be a whole number of at least 1, got "x"',
          "source.access_key is required with secret_key",
          "source.tabel is not a field; the fields are table_name, partition_key, key, region, access_key, secret_key, session_token, profile, role_arn, external_id, role_session_name, endpoint, use_fips, use_dualstack, ca_certs, debug, initial_value, history, keep",
        ],
      ],
    ])("%s", async (_, fields, lines) => {
      await expectMistakes(steps, step, { ...request, source: { ...source, ...fields } }, lines);
    });

    test.each<[string, unknown, string[]]>([
      ["no input", "", ["stdin is empty; expected a JSON request"]],
      [
        "no JSON",
        `{"secret_key": "${SECRET}"`,
        ["stdin is not valid JSON (line 1, column 36); YAML is not accepted"],
      ],
      ["two documents", "{}{}", ["stdin is not valid JSON (line 1, column 3); YAML is not accepted"]],
      ["Latin-1", Buffer.from([0x22, 0xe9, 0x22]), ["stdin is not valid UTF-8"]],
      ["a list", [], ["the request must be a JSON object, got an array"]],
      ["null", null, ["the request must be a JSON object, got null"]],
      ["a text", `"${SECRET}"`, ["the request must be a JSON object, got a string"]],
      ["source that is a text", { ...request, source: SECRET }, ["source must be an object, got a string"]],
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
        [`./${step}: unknown option --verbose; try ./${step} --help`],
        ["--verbose"],
      );
      await expectMistakes(steps, step, request, [`./${step} takes `], ["/tmp", "/tmp"]);
      await expectMistakes(steps, step, request, [`./${step} takes `], step === "check" ? ["/tmp"] : []);
    });
  });

  describe("params of out:", () => {
    test.each<[string, unknown, (string | RegExp)[]]>([
      [
        "a number that JSON does not hold exactly",
        { value: 2 ** 53 },
        ["params.value must be a quoted string (YAML reads 1.10 as 1.1 and yes as true), got a number"],
      ],
      [
        "a number with a fraction",
        { value: 1.1 },
        ["params.value must be a quoted string (YAML reads 1.10 as 1.1 and yes as true), got a number"],
      ],
      [
        "true",
        { value: true },
        ["params.value must be a quoted string (YAML reads 1.10 as 1.1 and yes as true), got a boolean"],
      ],
      [
        "null",
        { value: null },
        ["params.value must be a quoted string (YAML reads 1.10 as 1.1 and yes as true), got null"],
      ],
      [
        "a list",
        { value: ["1"] },
        ["params.value must be a quoted string (YAML reads 1.10 as 1.1 and yes as true), got an array"],
      ],
      [
        "an object",
        { value: {} },
        ["params.value must be a quoted string (YAML reads 1.10 as 1.1 and yes as true), got an object"],
      ],
      ["NUL", { value: "a\0b" }, ["params.value contains a NUL character, which Concourse cannot store"]],
      [
        "half a character",
        { value: "a\udc00b" },
        ["params.value contains half of a surrogate pair, which UTF-8 cannot encode"],
      ],
      [
        "file and value",
        { value: "1", file: "a/b" },
        ["params: only one of file, value, directory and bump (with pre) can be used"],
      ],
      ["an empty file", { file: "" }, ["params.file must not be empty"]],
      ["a file that is a number", { file: 1 }, ["params.file must be a quoted string, got a number"]],
      [
        "skip_unchanged that is a word",
        { value: "1", skip_unchanged: "yes" },
        ['params.skip_unchanged must be true or false, got "yes"'],
      ],
      [
        "skip_unchanged that is a number",
        { value: "1", skip_unchanged: 1 },
        ["params.skip_unchanged must be true or false, got a number"],
      ],
      [
        "an unknown one",
        { value: "1", skip: true },
        [
          "params.skip is not a field; the fields are file, value, directory, bump, pre, expect, skip_unchanged, get_latest, web_identity_token",
        ],
      ],
      ["a text", SECRET, ["params must be an object, got a string"]],
      ["a list", [], ["params must be an object, got an array"]],
    ])("%s", async (_, params, lines) => {
      await expectMistakes(steps, "out", { source, params }, lines);
    });
  });

  describe("params and version of in:", () => {
    test.each<[string, unknown, string[]]>([
      [
        "a folder up",
        { file: "../x" },
        ["params.file must be a file name without a directory (example: version.txt)"],
      ],
      [
        "an absolute path",
        { file: "/etc/passwd" },
        ["params.file must be a file name without a directory (example: version.txt)"],
      ],
      [
        "a folder",
        { file: "a/b" },
        ["params.file must be a file name without a directory (example: version.txt)"],
      ],
      [
        "a dot",
        { file: "." },
        ["params.file must be a file name without a directory (example: version.txt)"],
      ],
      [
        "two dots",
        { file: ".." },
        ["params.file must be a file name without a directory (example: version.txt)"],
      ],
      [
        "NUL",
        { file: "a\0b" },
        ["params.file must be a file name without a directory (example: version.txt)"],
      ],
      [
        "nothing",
        { file: "" },
        ["params.file must be a file name without a directory (example: version.txt)"],
      ],
      [
        "version.json",
        { file: "version.json" },
        ["params.file must not be version.json, the file that holds the whole version"],
      ],
      ["an unknown one", { flie: "x" }, ["params.flie is not a field; did you mean file?"]],
    ])("%s", async (_, params, lines) => {
      await expectMistakes(steps, "in", { source, version, params }, lines);
    });

    test.each<[string, unknown, string[]]>([
      ["none", undefined, ["version is required"]],
      ["null", null, ["version must be an object, got null"]],
      ["no value", { created: version.created }, ["version.value is required"]],
      ["no created", { value: "1" }, ["version.created is required"]],
      ["neither", {}, ["version.value is required", "version.created is required"]],
      ["a number", { ...version, value: 1 }, ["version.value must be a quoted string, got a number"]],
    ])("version %s", async (_, given, lines) => {
      await expectMistakes(steps, "in", { source, version: given }, lines);
    });
  });

  describe.each<StepName>(["check", "in", "out"])("%s in a shell", (step) => {
    test.each(["--help", "-h"])("answers %s", async (option) => {
      const { status, stdout, stderr } = await steps.run(step, "", { words: [option] });
      expect({ status, stderr }).toEqual({ status: 0, stderr: [] });
      expect(stdout).toContain(`usage: ./${step}`);
      for (const field of ["table_name", "key", "region"]) expect(stdout).toContain(`  ${field} `);
      expect(stdout.split("\n").filter((line) => line.length > 100)).toEqual([]);
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
