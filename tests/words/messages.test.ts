import { afterAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { createAuthority } from "../support/authority.ts";
import { startDynalite } from "../support/engine.ts";
import { faults, startFaultyProxy } from "../support/faults.ts";
import { awsError, startProxy } from "../support/proxy.ts";
import { dist, type Start, type StepName } from "../support/step.ts";
import { createTable } from "../support/table.ts";

/** All that a step says when something is wrong, for people to read from top to bottom; UPDATE_MESSAGES=1 writes it anew. */
const FILE = `${import.meta.dir}/messages.txt`;

const folder = await mkdtemp(`${tmpdir()}/messages-`);
afterAll(() => rm(folder, { recursive: true }));

const engine = await startDynalite();
const ca = await createAuthority("Tests");
const PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

const lines: string[] = [];

/** Runs a step that has something to say, and keeps it. */
async function tell(title: string, step: StepName, request: unknown, start: Start = {}): Promise<void> {
  lines.push(...(await said(title, step, request, start)));
}

/** What a step says, without what differs from run to run. */
async function said(title: string, step: StepName, request: unknown, start: Start = {}): Promise<string[]> {
  const { stderr } = await dist.run(step, request, { words: step === "check" ? [] : [folder], ...start });
  const shown = stderr.map((line) =>
    line
      .replaceAll(folder, "/tmp/build/put")
      .replace(/127\.0\.0\.1:\d+/g, "127.0.0.1:8000")
      .replace("(EAI_AGAIN)", "(ENOTFOUND)")
      .replace(/table-\d+-\d+/g, "packages-table")
      .replace(/2\d{3}-\d\d-\d\dT[\d:.]+Z/g, "2026-11-23T15:04:05.123Z")
      .replace(/\d+ attempts/g, "4 attempts")
      .replace(/\d+ days/g, "3000 days"),
  );
  return [`# ${step}: ${title}`, ...shown, ""];
}

test("every message is the one that was last read and found good", async () => {
  await using table = await createTable(engine);
  const { source } = table;
  const value = { value: "package-1.2" };

  lines.push("## What is wrong with a request", "");
  const bad: Record<string, Record<string, unknown>> = {
    "nothing in source": Object.fromEntries(Object.keys(source).map((name) => [name, undefined])),
    "texts that YAML read as something else": {
      table_name: 5,
      key: 1.1,
      region: true,
      endpoint: ["x"],
      partition_key: null,
    },
    "names that cannot be": { table_name: "my table", partition_key: "value", key: "", region: "eu west" },
    "an endpoint without scheme": { endpoint: "localhost:8000" },
    "half an access key": { secret_key: undefined },
    "a session token alone": { access_key: undefined, secret_key: undefined, session_token: "token" },
    "a secret with a newline": { secret_key: "secret\n" },
    "numbers that count nothing": { history: 0, keep: "many" },
    "an initial value that YAML changed": { initial_value: 1.1 },
    "certificates that are none": { ca_certs: ["/etc/ssl/ca.pem", PEM] },
    "roles that are none": { role_arn: ["arn:aws:iam::1:user/ci", 5], external_id: "x" },
    "a token in the wrong place": { web_identity_token: "header.payload.signature" },
    "fields that are misspelt": { table: "x", regoin: "x", accessKey: "x" },
  };
  for (const [title, fields] of Object.entries(bad))
    await tell(title, "check", { source: { ...source, ...fields } });
  await tell("nothing on stdin", "check", "");
  await tell("no JSON on stdin", "check", "{'source': {}}");
  await tell("no source", "check", {});
  await tell("an unknown option", "check", { source }, { words: ["--verbose"] });
  await tell("a folder too many", "check", { source }, { words: ["/tmp/build/get"] });
  await tell("no folder", "in", { source, version: value }, { words: [] });
  await tell("no version", "in", { source });
  await tell("half a version, a path for the file", "in", {
    source,
    version: value,
    params: { file: "a/b" },
  });
  await tell("a value that YAML changed", "out", { source, params: { value: 1.1 } });
  await tell("a value and a file", "out", { source, params: { ...value, file: "a/version.txt" } });
  await tell("a token without a role", "out", {
    source,
    params: { ...value, web_identity_token: "header.payload.signature" },
  });
  await tell("an unknown param", "out", { source, params: { ...value, skip_unchaged: true } });

  lines.push("## What is wrong with the inputs of a put", "");
  await tell("no inputs", "out", { source });
  await mkdir(`${folder}/artifacts`);
  await writeFile(`${folder}/artifacts/notes.txt`, "notes");
  await tell("no version.txt", "out", { source });
  await tell("a file that is not there", "out", { source, params: { file: "artefacts/version.txt" } });
  await mkdir(`${folder}/more`);
  await writeFile(`${folder}/artifacts/version.txt`, "1");
  await writeFile(`${folder}/more/version.txt`, "2");
  await tell("several version.txt", "out", { source });
  await writeFile(`${folder}/artifacts/latin1`, new Uint8Array([0xe9]));
  await writeFile(`${folder}/artifacts/nul`, "a\0b");
  await writeFile(`${folder}/artifacts/utf16`, Buffer.from("version", "utf16le"));
  await writeFile(`${folder}/artifacts/utf16-half`, Buffer.from("fffe31", "hex"));
  await writeFile(`${folder}/artifacts/large`, "x".repeat(500_000));
  await symlink("/etc/passwd", `${folder}/artifacts/link`);
  for (const file of [
    "artifacts",
    "artifacts/latin1",
    "artifacts/nul",
    "artifacts/utf16",
    "artifacts/utf16-half",
    "artifacts/large",
    "artifacts/link",
    "../x",
    "/x",
  ]) {
    await tell(`the file ${file}`, "out", { source, params: { file } });
  }
  await tell("a folder with a binary file in it", "out", { source, params: { directory: "artifacts" } });
  await tell("no such folder", "out", { source }, { words: ["/no/such/folder"] });
  await mkdir(`${folder}/version.txt`);
  await tell("a folder where the file goes", "in", {
    source,
    version: { ...value, created: "2026-11-23T15:04:05.123Z" },
  });

  lines.push("## What is wrong with the table", "");
  await tell("no such table", "check", { source: { ...source, table_name: "package-table" } });
  await using unsorted = await createTable(engine, { sortKey: null });
  await tell("a table without sort key", "out", { source: unsorted.source, params: value });
  await using full = await createTable(engine);
  await full.add(
    { created: "yesterday", value: "1" },
    { created: "2026-01-01T00:00:00.000Z", value: {} },
    { created: "2026-01-02T00:00:00.000Z", value: { value: { BOOL: true } } },
    { created: "2026-01-03T00:00:00.000Z", value: { value: { S: "a\0b" } } },
  );
  await tell("items that are no versions", "check", { source: full.source });
  for (const version of [{ ref: "61cbef" }, { created: "yesterday" }])
    await tell(`a version that is no cursor, ${JSON.stringify(version)}`, "check", { source, version });
  await using waiting = await createTable(engine);
  await waiting.add(
    { created: "12/31/2998 00:00:00", value: "1" },
    { created: "12/31/2999 00:00:00", value: "2" },
  );
  await tell("old-style items of the future", "check", { source: waiting.source });
  await using large = await createTable(engine);
  for (const day of Array.from({ length: 22 }, (_, index) => 10 + index))
    await large.add({ created: `2026-01-${day}T00:00:00.000Z`, value: "x".repeat(400_000) });
  await tell("more than 8 MiB", "check", { source: large.source });
  await tell("more than 8 MiB from a cursor", "check", {
    source: large.source,
    version: { created: "2026-01-10T00:00:00.000Z" },
  });
  await using late = await createTable(engine);
  await late.add({ created: "9999-12-31T23:59:59.998Z", value: "1" });
  await tell("a history that is ahead", "out", { source: late.source, params: value });
  await tell("a history that is at its end", "out", { source: late.source, params: value });
  await tell("an empty value", "out", { source, params: { value: "" } });

  lines.push("## What AWS refuses", "");
  const refusals: Record<string, [name: string, message: string, status?: number]> = {
    "an action": [
      "AccessDeniedException",
      "User: arn:aws:iam::123456789012:user/ci is not authorized to perform: dynamodb:Query",
    ],
    "an access key": [
      "UnrecognizedClientException",
      "The security token included in the request is invalid.",
    ],
    "a signature": ["InvalidSignatureException", "The request signature we calculated does not match"],
    "a session token": ["ExpiredTokenException", "The security token included in the request is expired"],
    "a request": ["ValidationException", "One or more parameter values were invalid"],
    "what this resource does not know": ["RequestEntityTooLargeException", "The request is too large", 413],
  };
  for (const [title, refusal] of Object.entries(refusals)) {
    await using proxy = startProxy(source.endpoint, () => awsError(...refusal));
    await tell(title, "check", { source: { ...source, endpoint: proxy.endpoint } });
  }
  for (const operation of ["UpdateItem", "PutItem", "DeleteItem"]) {
    await using proxy = startProxy(source.endpoint, (asked) =>
      asked.operation === operation
        ? awsError("AccessDeniedException", `not authorized to perform: dynamodb:${operation}`)
        : undefined,
    );
    await using other = await createTable(engine);
    await other.add(
      ...["01", "02", "03"].map((day) => ({ created: `2026-01-${day}T00:00:00.000Z`, value: day })),
    );
    await tell(`dynamodb:${operation}`, "out", {
      source: { ...other.source, keep: 1, endpoint: proxy.endpoint },
      params: value,
    });
  }
  const { access_key: _, secret_key: __, ...keyless } = source;
  await tell("no credentials", "check", { source: keyless }, { env: { AWS_EC2_METADATA_DISABLED: "true" } });
  const broken: Record<string, Record<string, string>> = {
    "half a key pair": { AWS_ACCESS_KEY_ID: "AKIAenvironment" },
    "a secret with a newline": { AWS_ACCESS_KEY_ID: "AKIAenvironment", AWS_SECRET_ACCESS_KEY: "secret\n" },
    "a profile that is not there": { AWS_PROFILE: "none" },
    "a token file without a role": { AWS_WEB_IDENTITY_TOKEN_FILE: "/no/such/file" },
    "a token file that is not there": {
      AWS_WEB_IDENTITY_TOKEN_FILE: "/no/such/file",
      AWS_ROLE_ARN: "arn:aws:iam::123456789012:role/ci",
    },
    "a container that is not allowed": { AWS_CONTAINER_CREDENTIALS_FULL_URI: "http://example.com/keys" },
    "an endpoint that is none": { AWS_ENDPOINT_URL_DYNAMODB: "localhost:8000" },
    "a region that is none": { AWS_REGION: "eu west" },
    "a proxy that is none": { https_proxy: "proxy:3128" },
  };
  for (const [title, env] of Object.entries(broken)) {
    await tell(
      `in the environment, ${title}`,
      "check",
      { source: { ...keyless, region: undefined, endpoint: undefined } },
      { env },
    );
  }

  lines.push("## What a put that depends on the newest value says", "");
  await using newest = await createTable(engine);
  await newest.add({ created: "2026-01-01T00:00:00.000Z", value: "1.3.0-rc.2" });
  for (const params of [
    { ...value, expect: "1.2.0" },
    { bump: "number" },
    { pre: "alpha" },
    { bump: "minor", value: "1" },
    { bump: "huge" },
    { bump: "minor", pre: "1" },
    { bump: "final", pre: "rc" },
    { value: "1.3.0-rc.2", skip_unchanged: true },
    { get_latest: true, value: "1" },
  ]) {
    await tell(JSON.stringify(params), "out", { source: newest.source, params });
  }
  await using none = await createTable(engine);
  await tell("get_latest of an empty key", "out", { source: none.source, params: { get_latest: true } });
  await tell("--value of an empty key", "check", { source: none.source }, { words: ["--value"] });

  lines.push("## What is wrong with the way to DynamoDB", "");
  await tell(
    "a proxy refuses",
    "check",
    { source: { ...source, region: "us-east-1", endpoint: undefined } },
    { env: { https_proxy: "http://user:password@127.0.0.1:1" } },
  );
  await tell("nobody listens", "check", { source: { ...source, endpoint: "http://127.0.0.1:1" } });
  await tell("no such host", "check", { source: { ...source, endpoint: "http://dynamodb.invalid" } });
  const operations = [
    ["check", "Query"],
    ["out", "PutItem"],
  ] as const;
  // Side by side: many of them last until the step's time is up.
  const met = Object.entries(faults).flatMap(([title, { fault }]) =>
    operations.map(async ([step, operation]) => {
      if (
        fault.kind === "a slow answer" ||
        title === "a wrong clock" ||
        (step === "out" && fault.kind === "a page without end")
      )
        return [];
      await using other = await createTable(engine);
      await using proxy = await startFaultyProxy(source.endpoint, fault, {
        operation,
        from: 1,
        times: Infinity,
      });
      return await said(title, step, {
        source: { ...other.source, endpoint: proxy.endpoint },
        params: value,
      });
    }),
  );
  lines.push(...(await Promise.all(met)).flat());
  for (const [title, domains] of Object.entries({
    "an unknown authority": ["127.0.0.1"],
    "another host": ["example.com"],
  })) {
    await using proxy = startProxy(source.endpoint, () => undefined, await ca.certify(...domains));
    const trusted = title === "another host" ? { ca_certs: [ca.cert] } : {};
    await tell(`a certificate of ${title}`, "check", {
      source: { ...source, endpoint: proxy.endpoint, ...trusted },
    });
  }

  const text = lines.join("\n");
  if (process.env.UPDATE_MESSAGES) await writeFile(FILE, text);
  expect(text).toBe(await Bun.file(FILE).text());
}, 180_000);
