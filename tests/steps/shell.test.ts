import { describe, expect, test } from "bun:test";
import { isSecret } from "../../shared/fields.ts";
import { fieldsOf } from "../../shared/request.ts";
import { OutRequest } from "../../shared/schema.ts";
import { startDynalite } from "../support/engine.ts";
import { awsError, startProxy } from "../support/proxy.ts";
import { dist, type StepName, unreachable } from "../support/step.ts";
import { describeSubjects } from "../support/subjects.ts";
import { createTable as createTestTable } from "../support/table.ts";

const words = ["/tmp"];
const PUT = "2026-01-01T00:00:00.000Z";

describeSubjects("--value", ({ createTable, run }) => {
  test.each(["1.0.0", "", " spaces ", "two\nlines\n", '"quoted"', "ü€𝄞"])(
    "of check gives %j as it is",
    async (value) => {
      await using table = await createTable();
      await table.add({ created: "2025-01-01T00:00:00.000Z", value: "older" }, { created: PUT, value });
      const request = {
        source: { ...table.source, history: 5 },
        version: { created: "2025-01-01T00:00:00.000Z" },
      };
      expect(await run("check", request, { words: ["--value"] })).toEqual({
        status: 0,
        stdout: `${value}\n`,
        stderr: [],
      });
    },
  );

  test("of check gives initial_value while the key has no item, and else exit status 3", async () => {
    await using table = await createTable();
    const check = (source: object) =>
      run("check", { source: { ...table.source, ...source } }, { words: ["--value"] });
    expect(await check({ initial_value: "0" })).toEqual({ status: 0, stdout: "0\n", stderr: [] });
    expect(await check({})).toEqual({
      status: 3,
      stdout: "",
      stderr: [expect.stringMatching(/^.*key.*"my-app" has no/)],
    });
    await table.add({ created: PUT, value: { value: { BOOL: true } } });
    expect(await check({ initial_value: "0" })).toMatchObject({ status: 3, stdout: "" });
  });

  test("of out gives the value that was put", async () => {
    await using table = await createTable();
    const put = (params: object) =>
      run("out", { source: table.source, params }, { words: ["/tmp", "--value"] });
    expect(await put({ value: "1.0.0" })).toEqual({ status: 0, stdout: "1.0.0\n", stderr: [] });
    expect(await put({ bump: "minor" })).toEqual({ status: 0, stdout: "1.1.0\n", stderr: [] });
    expect(await put({ get_latest: true })).toEqual({ status: 0, stdout: "1.1.0\n", stderr: [] });
  });
});

test("check --value asks for no more than the newest version", async () => {
  await using table = await createTestTable(await startDynalite());
  await table.add(
    ...Array.from({ length: 40 }, (_, index) => ({
      created: new Date(index * 1e9 + 1e12).toISOString(),
      value: `${index}`,
    })),
  );
  await using proxy = startProxy(table.source.endpoint, () => undefined);
  const source = { ...table.source, endpoint: proxy.endpoint, history: 40 };
  expect(await dist.run("check", { source }, { words: ["--value"] })).toMatchObject({
    status: 0,
    stdout: "39\n",
  });
  expect(proxy.asked.map(({ body: { Limit: limit } }) => limit)).toContain(1);
});

describe.each(["bash", "sh"])("in %s -e", (shell) => {
  const runShell = async (script: string, request: object) => {
    const { cmd } = await dist.command("check");
    const path = `/tmp/request-${crypto.randomUUID()}.json`;
    await Bun.write(path, JSON.stringify(request));
    const child = Bun.spawn(
      [shell, "-ec", script.replaceAll("./check", cmd[0]!).replaceAll("request.json", path)],
      {
        env: { PATH: process.env.PATH! },
        stdout: "pipe",
        stderr: "pipe",
      },
    );
    const outcome = { stdout: await child.stdout.text(), status: await child.exited };
    await Bun.file(path).delete();
    return outcome;
  };
  const script = `v=$(./check --value <request.json); echo "got $v"`;

  test("the newest value goes into a variable", async () => {
    await using table = await createTestTable(await startDynalite());
    await table.add({ created: PUT, value: "1.0.0" });
    expect(await runShell(script, { source: table.source })).toEqual({ stdout: "got 1.0.0\n", status: 0 });
  });

  test("a key without version and a failure end the script, each by its status", async () => {
    await using table = await createTestTable(await startDynalite());
    expect(await runShell(script, { source: table.source })).toEqual({ stdout: "", status: 3 });
    expect(await runShell(script, { source: { ...table.source, table_name: "other" } })).toEqual({
      stdout: "",
      status: 1,
    });
  });
});

describe("an answer that cannot be delivered", () => {
  test.each<[string, StepName, string, object, string, number, RegExp, number]>([
    [
      "of a put",
      "out",
      "| true",
      { value: "1" },
      "",
      5,
      /^the value is stored \(created 2\S+Z\), but the answer could not be written to stdout: EPIPE$/,
      1,
    ],
    [
      "of a put, on a full disk",
      "out",
      ">/dev/full",
      { value: "1" },
      "",
      5,
      /^the value is stored \(created 2\S+Z\), but .*: ENOSPC$/,
      1,
    ],
    [
      "of a put, stdout closed",
      "out",
      ">&-",
      { value: "1" },
      "",
      5,
      /^the value is stored .*, but stdout is closed$/,
      1,
    ],
    [
      "of a put whose value is a part of a time",
      "out",
      ">/dev/full",
      { value: new Date().toISOString().slice(0, 10) },
      "",
      5,
      /^the value is stored \(created 2\S+Z\), but /,
      1,
    ],
    [
      "of get_latest",
      "out",
      "| true",
      { get_latest: true },
      "0",
      1,
      /^the answer could not be written to stdout: EPIPE$/,
      0,
    ],
    [
      "of a check, on a full disk",
      "check",
      ">/dev/full",
      {},
      "0",
      1,
      /^the answer could not be written to stdout: ENOSPC$/,
      0,
    ],
  ])("%s", async (_, step, to, params, initial, status, line, items) => {
    await using table = await createTestTable(await startDynalite());
    const { cmd, ...options } = await dist.command(step, { words: step === "out" ? words : [] });
    const child = Bun.spawn(["sh", "-c", `{ "$0" "$@"; echo "status $?" >&2; } ${to}`, ...cmd], {
      ...options,
      stdin: Buffer.from(JSON.stringify({ source: { ...table.source, initial_value: initial }, params })),
      stderr: "pipe",
    });
    const lines = (await child.stderr.text()).trimEnd().split("\n");
    expect(lines).toEqual([expect.stringMatching(line), `status ${status}`]);
    expect(await table.items()).toHaveLength(items);
  });
});

test.each<[string, StepName, unknown, number, string]>([
  [
    "more than 16 MiB",
    "check",
    " ".repeat(16 * 1024 * 1024 + 1),
    1,
    "the request on stdin must not be larger than 16 MiB",
  ],
  [
    "YAML",
    "check",
    "source:\n  key: a\n",
    1,
    "stdin is not valid JSON (line 1, column 1); YAML is not accepted",
  ],
  [
    "broken JSON",
    "check",
    '{"source": {\n  "key": a}}',
    1,
    "stdin is not valid JSON (line 2, column 10); YAML is not accepted",
  ],
  ["nested too deeply", "check", "[".repeat(1_000_000), 1, "stdin is not valid JSON"],
  [
    "check's answer as a version",
    "in",
    { source: unreachable, version: [{ value: "1", created: PUT }] },
    1,
    "version: must be an object, got an array; pass its last element (jq '.[-1]')",
  ],
  [
    "a misspelt part",
    "in",
    { source: unreachable, version: { value: "1", created: PUT }, parms: {} },
    0,
    'warning: unknown request field "parms" ignored; did you mean "params"?',
  ],
  [
    "a get's param in a put",
    "out",
    { source: unreachable, params: { value: "1", unpack: true } },
    1,
    "params.unpack belongs to get steps, not put steps",
  ],
  [
    "a put's param in a get",
    "in",
    { source: unreachable, version: { value: "1", created: PUT }, params: { skip_unchanged: true } },
    1,
    "params.skip_unchanged belongs to put steps, not get steps",
  ],
  [
    "a token in a check",
    "check",
    { source: unreachable, params: { web_identity_token: "token-of-a-build" } },
    1,
    "params.web_identity_token belongs to put steps, not to checks",
  ],
])("says what is wrong with %s", async (_, step, request, status, line) => {
  const outcome = await dist.run(step, request, { words: step === "check" ? [] : ["/tmp"] });
  expect({ status: outcome.status, stderr: outcome.stderr }).toEqual({
    status,
    stderr: [expect.stringContaining(line)],
  });
});

describe("on stderr", () => {
  const refusal = (message: string) =>
    startProxy("http://127.0.0.1:1", () => awsError("ValidationException", message));

  test.each<[string, string, object, Record<string, string>, string]>([
    [
      "secrets of the environment",
      "key AKIAENVIRONMENT and secret-of-the-environment",
      { access_key: undefined, secret_key: undefined },
      { AWS_ACCESS_KEY_ID: "AKIAENVIRONMENT", AWS_SECRET_ACCESS_KEY: "secret-of-the-environment" },
      "key *** and ***",
    ],
    ["secrets of the source", "it was secret-of-the-tests", {}, {}, "it was ***"],
    ["control characters and marks that turn text", "a\u001b[31mb\u2028c\u202ed", {}, {}, "a [31mb c d"],
    ["the rest of a long line", "x".repeat(5000), {}, {}, "xxx…"],
  ])("%s are not shown", async (_, message, source, env, shown) => {
    await using proxy = refusal(message);
    const request = { source: { ...unreachable, region: "us-east-1", ...source, endpoint: proxy.endpoint } };
    const { stderr } = await dist.run("check", request, { env });
    expect(stderr).toEqual([expect.stringContaining(shown)]);
    expect(stderr[0]!.length).toBeLessThan(2100);
  });

  const secrets = Object.entries(fieldsOf(OutRequest).source ?? {}).filter(([, field]) => isSecret(field));
  test.each(secrets.map(([name]) => name))(
    "source.%s is not shown, since the schema says so",
    async (name) => {
      await using proxy = refusal("it was marker-of-a-secret");
      const request = { source: { ...unreachable, endpoint: proxy.endpoint, [name]: "marker-of-a-secret" } };
      const { stderr } = await dist.run("check", request);
      expect(stderr).toEqual([expect.stringContaining("it was ***")]);
    },
  );

  test("a command to paste is whole, and a value in it is not masked", async () => {
    await using table = await createTestTable(await startDynalite());
    const source = { ...table.source, table_name: "no-such-table" };
    const { stderr } = await dist.run("out", { source, params: { value: "no-such-table" } }, { words });
    expect(stderr).toEqual([expect.stringContaining("--table-name no-such-table --billing-mode")]);
  });

  test("a value that is cut shows no part of a secret", async () => {
    await using table = await createTestTable(await startDynalite());
    const expected = `${"a".repeat(90)}${table.source.secret_key}`;
    const { status, stderr } = await dist.run(
      "out",
      { source: table.source, params: { value: "1", expect: expected } },
      { words },
    );
    expect({ status, stderr }).toEqual({
      status: 4,
      stderr: [expect.stringContaining("expected (left out: it contains a secret), but")],
    });
  });

  test("a value is shown to its hundredth character", async () => {
    await using table = await createTestTable(await startDynalite());
    const params = { value: "1", expect: "b".repeat(150) };
    const { stderr } = await dist.run("out", { source: table.source, params }, { words });
    expect(stderr).toEqual([expect.stringContaining(`expected "${"b".repeat(100)}", but`)]);
  });

  test("a command that would hold a secret is left out", async () => {
    await using table = await createTestTable(await startDynalite());
    const source = { ...table.source, table_name: table.source.secret_key };
    const { stderr } = await dist.run("check", { source });
    expect(stderr.join("\n")).not.toContain(table.source.secret_key);
    expect(stderr).toEqual([expect.stringContaining("(left out: it contains a secret)")]);
  });
});
