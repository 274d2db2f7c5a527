import { afterAll, expect, test } from "bun:test";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { startDynalite } from "../support/engine.ts";
import { awsError, startProxy } from "../support/proxy.ts";
import { dist, unreachable } from "../support/step.ts";
import { startSts } from "../support/sts.ts";
import { createTable } from "../support/table.ts";

// From dist alone, on dynalite: what the environment says does not depend on who answers.
const { run } = dist;
const engine = await startDynalite();
const role = "arn:aws:iam::123456789012:role/ci";

const folder = await mkdtemp(`${tmpdir()}/environment-`);
afterAll(() => rm(folder, { recursive: true }));

const process = `${folder}/process`;
await writeFile(
  process,
  `#!/bin/sh\ntouch ${folder}/started\necho '{"Version":1,"AccessKeyId":"AKIAprocess","SecretAccessKey":"secret-of-a-process"}'\n`,
);
await chmod(process, 0o755);
const CREDENTIALS = `[default]
aws_access_key_id = AKIAdefault
aws_secret_access_key = secret-of-default
[dev]
aws_access_key_id = AKIAdev
aws_secret_access_key = secret-of-dev
`;
const CONFIG = `[default]
region = eu-south-1
[profile assuming]
role_arn = ${role}
source_profile = dev
[profile dev]
region = eu-north-1
[profile started]
credential_process = ${process}
[profile failing]
credential_process = /bin/false
[profile empty]
region = eu-west-3
[profile over]
sso_start_url = https://example.awsapps.com/start
sso_region = us-east-1
sso_account_id = 123456789012
sso_role_name = ci
`;
await writeFile(`${folder}/credentials`, CREDENTIALS);
await writeFile(`${folder}/config`, CONFIG);
await writeFile(`${folder}/token`, "header.payload.signature\n");

const FILES = { AWS_SHARED_CREDENTIALS_FILE: `${folder}/credentials`, AWS_CONFIG_FILE: `${folder}/config` };
const KEYS = { AWS_ACCESS_KEY_ID: "AKIAenvironment", AWS_SECRET_ACCESS_KEY: "secret-of-the-environment" };
const TOKEN = { AWS_WEB_IDENTITY_TOKEN_FILE: `${folder}/token`, AWS_ROLE_ARN: role };
const GIVEN = { access_key: "AKIAtest", secret_key: "secret-of-the-tests" };

/** Who signed a check's requests, and for which region. */
async function signer(fields: object, env: Record<string, string>): Promise<string> {
  await using table = await createTable(engine);
  await using proxy = startProxy(table.source.endpoint, () => undefined);
  using sts = startSts({});
  const { access_key: _, secret_key: __, region: ___, endpoint: ____, ...bare } = table.source;
  const { status, stderr } = await run(
    "check",
    { source: { ...bare, ...fields } },
    {
      env: { AWS_ENDPOINT_URL_DYNAMODB: proxy.endpoint, AWS_ENDPOINT_URL_STS: sts.endpoint, ...env },
    },
  );
  if (status !== 0) return stderr.join("\n");
  const [, key, region] = /Credential=(\w+)\/\d+\/([\w-]+)\//.exec(proxy.asked[0]?.authorization ?? "") ?? [];
  return `${key} in ${region}`;
}

test.each<[string, object, Record<string, string>, string]>([
  [
    "the source's keys before all",
    GIVEN,
    { ...FILES, ...KEYS, ...TOKEN, AWS_PROFILE: "dev" },
    "AKIAtest in us-east-1",
  ],
  [
    "the source's profile before the environment's keys",
    { profile: "dev" },
    { ...FILES, ...KEYS, AWS_PROFILE: "started" },
    "AKIAdev in eu-north-1",
  ],
  [
    "the environment's keys before AWS_PROFILE, in its region",
    {},
    { ...FILES, ...KEYS, ...TOKEN, AWS_PROFILE: "dev" },
    "AKIAenvironment in eu-north-1",
  ],
  [
    "a profile that is not there beside good keys",
    {},
    { ...FILES, ...KEYS, AWS_PROFILE: "none" },
    "AKIAenvironment in us-east-1",
  ],
  [
    "AWS_PROFILE before a web identity",
    {},
    { ...FILES, ...TOKEN, AWS_PROFILE: "dev" },
    "AKIAdev in eu-north-1",
  ],
  ["the default profile before a web identity", {}, { ...FILES, ...TOKEN }, "AKIAdefault in eu-south-1"],
  ["a profile's program", { profile: "started" }, FILES, "AKIAprocess in us-east-1"],
  ["a web identity file, whatever newline it ends with", {}, TOKEN, "ASIA1ci in us-east-1"],
  [
    "AWS_REGION before AWS_DEFAULT_REGION and files",
    { profile: "dev" },
    { ...FILES, AWS_REGION: "eu-west-1", AWS_DEFAULT_REGION: "eu-west-2" },
    "AKIAdev in eu-west-1",
  ],
  [
    "AWS_DEFAULT_REGION before files",
    { profile: "dev" },
    { ...FILES, AWS_DEFAULT_REGION: "eu-west-2" },
    "AKIAdev in eu-west-2",
  ],
  [
    "source.region before all",
    { ...GIVEN, region: "ap-east-1" },
    { ...FILES, AWS_REGION: "eu-west-1" },
    "AKIAtest in ap-east-1",
  ],
])("credentials and region: %s", async (_, fields, env, expected) => {
  expect(await signer(fields, env)).toBe(expected);
});

test("with keys of the source no shared file is read and no program of it is run", async () => {
  const files = { ...FILES, AWS_PROFILE: "started", AWS_CONFIG_FILE: `${folder}/config` };
  await rm(`${folder}/started`, { force: true });
  expect(await signer(GIVEN, { ...files, AWS_REGION: "" })).toBe("AKIAtest in us-east-1");
  expect(await Bun.file(`${folder}/started`).exists()).toBeFalse();
});

test.each<[string, object, Record<string, string>, RegExp]>([
  [
    "half a key pair",
    {},
    { AWS_ACCESS_KEY_ID: "AKIAenvironment" },
    /^AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not; set both or neither$/,
  ],
  [
    "the other half",
    {},
    { AWS_SECRET_ACCESS_KEY: "x" },
    /^AWS_SECRET_ACCESS_KEY is set, but AWS_ACCESS_KEY_ID is not; set both or neither$/,
  ],
  [
    "a token with a newline",
    {},
    { ...KEYS, AWS_SESSION_TOKEN: "token\n" },
    /^AWS_SESSION_TOKEN contains white space/,
  ],
  [
    "a profile that is not there",
    { profile: "none" },
    FILES,
    /^source\.profile: the profile "none" was not found/,
  ],
  [
    "an AWS_PROFILE that is not there",
    {},
    { ...FILES, AWS_PROFILE: "none" },
    /^AWS_PROFILE: the profile "none" was not found/,
  ],
  [
    "a profile without credentials",
    { profile: "empty" },
    FILES,
    /^source\.profile: the profile "empty" has no credentials$/,
  ],
  [
    "a program that fails",
    { profile: "failing" },
    FILES,
    /^source\.profile: the profile "failing" returned no credentials: /,
  ],
  [
    "an SSO session that is over",
    { profile: "over" },
    FILES,
    /^source\.profile: the profile "over" returned no credentials: .*SSO/,
  ],
  [
    "a token file that is not there",
    {},
    { ...TOKEN, AWS_WEB_IDENTITY_TOKEN_FILE: "/no/such/file" },
    /^AWS_WEB_IDENTITY_TOKEN_FILE: "\/no\/such\/file" does not exist$/,
  ],
  [
    "a container's address that is not allowed",
    {},
    { AWS_CONTAINER_CREDENTIALS_FULL_URI: "http://example.com/" },
    /^AWS_CONTAINER_CREDENTIALS_FULL_URI returned no credentials: /,
  ],
  [
    "an endpoint that is none",
    GIVEN,
    { AWS_ENDPOINT_URL_DYNAMODB: "localhost:8000" },
    /^AWS_ENDPOINT_URL_DYNAMODB is not a valid endpoint/,
  ],
  [
    "another endpoint that is none",
    GIVEN,
    { AWS_ENDPOINT_URL_DYNAMODB: "", AWS_ENDPOINT_URL: "x" },
    /^AWS_ENDPOINT_URL is not a valid endpoint/,
  ],
  [
    "a region that is none",
    GIVEN,
    { AWS_REGION: "eu west" },
    /^AWS_REGION: "eu west" is not a valid AWS region/,
  ],
  ["a proxy that is none", GIVEN, { https_proxy: "::::" }, /^https_proxy is not a valid proxy URL/],
  [
    "FIPS beside an endpoint",
    { ...GIVEN, use_fips: true },
    {},
    /^source\.use_fips cannot be used with an endpoint$/,
  ],
])("says what is wrong with %s", async (_, fields, env, line) => {
  expect(await signer(fields, { AWS_EC2_METADATA_DISABLED: "true", ...env })).toMatch(line);
});

test.each<[string, Record<string, string>, RegExp]>([
  [
    "that refuses connections",
    { AWS_ENDPOINT_URL_STS: "http://127.0.0.1:1" },
    /^127\.0\.0\.1:1 refused the connection while assuming a role at STS; /,
  ],
  [
    "behind a proxy that refuses",
    { https_proxy: "http://user:pass@127.0.0.1:1", AWS_ENDPOINT_URL_STS: "" },
    /^sts\.us-east-1\.amazonaws\.com: the proxy http:\/\/127\.0\.0\.1:1 \(https_proxy\) refused the connection while assuming a role at STS; /,
  ],
])("an STS %s is no matter of a trust policy", async (_, env, line) => {
  const { status, stderr } = await run("check", { source: { ...unreachable, role_arn: role } }, { env });
  expect({ status, stderr }).toEqual({ status: 1, stderr: [expect.stringMatching(line)] });
});

function stsError(code: string, status: number): Response {
  const error = `<Error><Type>Sender</Type><Code>${code}</Code><Message>not now</Message></Error>`;
  return new Response(`<ErrorResponse>${error}<RequestId>1</RequestId></ErrorResponse>`, { status });
}

test.each<[string, () => Response]>([
  ["throttles", () => stsError("Throttling", 400)],
  ["has a fault", () => stsError("InternalFailure", 500)],
  ["does not reach the identity provider", () => stsError("IDPCommunicationError", 400)],
  ["answers with nothing", () => new Response()],
  ["is behind a portal", () => new Response("<html>Log in</html>", { status: 403 })],
])("STS is asked again when it %s", async (_, answer) => {
  await using table = await createTable(engine);
  using sts = startSts({});
  let asked = 0;
  using before = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: async (request) =>
      asked++ < 2
        ? answer()
        : fetch(sts.endpoint, { method: "POST", headers: request.headers, body: await request.text() }),
  });
  const keyless = { ...table.source, access_key: undefined, secret_key: undefined };
  const params = { value: "1", web_identity_token: "header.payload.signature" };
  const env = { AWS_ENDPOINT_URL_STS: before.url.origin };
  const byToken = { source: { ...keyless, role_arn: role }, params };
  expect(await run("out", byToken, { words: ["/tmp"], env })).toMatchObject({ status: 0, stderr: [] });
  expect(asked).toBe(3);
});

test("STS is asked again for a profile with a role, and what it is not is told in words", async () => {
  await using table = await createTable(engine);
  using sts = startSts({ AKIAdev: "secret-of-dev" });
  let asked = 0;
  let busy = 5;
  using before = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: async (request) =>
      asked++ < busy
        ? new Response("busy", { status: busy === 5 ? 503 : 418 })
        : fetch(sts.endpoint, { method: "POST", headers: request.headers, body: await request.text() }),
  });
  const source = { ...table.source, access_key: undefined, secret_key: undefined, profile: "assuming" };
  const env = { ...FILES, AWS_ENDPOINT_URL_STS: before.url.origin };
  expect(await run("check", { source }, { env })).toMatchObject({ status: 0, stderr: [] });
  expect(asked).toBe(6);
  busy = Infinity;
  const { stderr } = await run("check", { source }, { env });
  expect(stderr).toEqual([
    expect.stringMatching(
      /^source\.profile: the profile "assuming" returned no credentials: .* did not answer like AWS \(HTTP 418\)$/,
    ),
  ]);
});

test("a token that has expired is told as that", async () => {
  using sts = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: () =>
      new Response(
        "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredTokenException</Code><Message>Token expired</Message></Error></ErrorResponse>",
        { status: 400 },
      ),
  });
  const source = { ...unreachable, access_key: undefined, secret_key: undefined, role_arn: role };
  const params = { value: "1", web_identity_token: "header.payload.signature" };
  const { stderr } = await run(
    "out",
    { source, params },
    { words: ["/tmp"], env: { AWS_ENDPOINT_URL_STS: sts.url.origin } },
  );
  expect(stderr).toEqual([
    "STS rejected params.web_identity_token: it has expired; fetch a new token for each put",
  ]);
});

test("keys and tokens that are received are not shown", async () => {
  using sts = startSts({ AKIAtest: "secret-of-the-tests" });
  using quoting = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: ({ headers }) =>
      awsError(
        "AccessDeniedException",
        `no: ${headers.get("authorization")} ${headers.get("x-amz-security-token")}`,
      ),
  });
  const source = {
    ...unreachable,
    access_key: "AKIAtest",
    secret_key: "secret-of-the-tests",
    role_arn: role,
    endpoint: quoting.url.origin,
  };
  const { stderr } = await run("check", { source }, { env: { AWS_ENDPOINT_URL_STS: sts.endpoint } });
  expect(stderr).toEqual([expect.stringMatching(/no: AWS4-HMAC-SHA256 .* \*\*\*\)$/)]);
});

test("debug logs STS's requests, too", async () => {
  await using table = await createTable(engine);
  using sts = startSts({ AKIAtest: "secret-of-the-tests" });
  const source = { ...table.source, role_arn: role, debug: true };
  const { stderr } = await run("check", { source }, { env: { AWS_ENDPOINT_URL_STS: sts.endpoint } });
  expect(stderr[0]).toMatch(/^debug: POST at 127\.0\.0\.1:\d+: HTTP 200, /);
});

test("FIPS beside an endpoint is a warning where STS is asked", async () => {
  await using table = await createTable(engine);
  using sts = startSts({ AKIAtest: "secret-of-the-tests" });
  const source = { ...table.source, role_arn: role, use_fips: true };
  expect(await run("check", { source }, { env: { AWS_ENDPOINT_URL_STS: sts.endpoint } })).toMatchObject({
    status: 0,
    stderr: [expect.stringMatching(/^warning: source\.use_fips applies to STS only/)],
  });
});

test.each<[string, object, string]>([
  ["an ISO partition", { region: "us-iso-east-1" }, "dynamodb.us-iso-east-1.c2s.ic.gov"],
  ["FIPS", { use_fips: true }, "dynamodb-fips.us-east-1.amazonaws.com"],
  [
    "an ARN's region",
    { table_name: "arn:aws:dynamodb:eu-west-1:123456789012:table/packages" },
    "dynamodb.eu-west-1.amazonaws.com",
  ],
])("an error names the host that was asked: %s", async (_, fields, host) => {
  const { endpoint: __, ...source } = unreachable;
  const { stderr } = await run(
    "check",
    { source: { ...source, ...fields } },
    { env: { https_proxy: "http://127.0.0.1:1" } },
  );
  expect(stderr).toEqual([
    expect.stringMatching(
      new RegExp(`^${RegExp.escape(host)}: the proxy http://127.0.0.1:1 \\(https_proxy\\) refused`),
    ),
  ]);
});

test.each<[string, object, string]>([
  [
    "another region than the ARN's",
    { region: "us-east-1", table_name: "arn:aws:dynamodb:eu-west-1:123456789012:table/packages" },
    "source.region contradicts the region in source.table_name's ARN",
  ],
  [
    "another service's ARN",
    { table_name: "arn:aws:s3:::packages" },
    'source.table_name: "arn:aws:s3:::packages" is not a valid table name',
  ],
])("refuses %s", async (_, fields, line) => {
  const { stderr } = await run("check", { source: { ...unreachable, ...fields } });
  expect(stderr).toEqual([expect.stringContaining(line)]);
});

test.each<[string, Record<string, string>]>([
  ["curl", { BUN_CONFIG_VERBOSE_FETCH: "curl" }],
  ["1", { BUN_CONFIG_VERBOSE_FETCH: "1", FORCE_COLOR: "1" }],
])("no setting of the environment makes a step show its requests: %s", async (_, env) => {
  await using table = await createTable(engine);
  const request = { source: { ...table.source, session_token: "marker-of-a-token" }, params: { value: "1" } };
  expect(await run("out", request, { words: ["/tmp"], env })).toMatchObject({ status: 0, stderr: [] });
});

test("a certificate is verified whatever NODE_TLS_REJECT_UNAUTHORIZED says", async () => {
  const { createAuthority } = await import("../support/authority.ts");
  const authority = await createAuthority("Tests");
  await using table = await createTable(engine);
  await using proxy = startProxy(
    table.source.endpoint,
    () => undefined,
    await authority.certify("example.com"),
  );
  for (const fields of [{}, { ca_certs: [authority.cert] }]) {
    const source = { ...table.source, ...fields, endpoint: proxy.endpoint };
    const { status, stderr } = await run("check", { source }, { env: { NODE_TLS_REJECT_UNAUTHORIZED: "0" } });
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: [expect.stringMatching(/^the certificate of 127\.0\.0\.1:\d+ is /)],
    });
  }
});

test("secrets of the environment are hidden when DynamoDB quotes them", async () => {
  await using proxy = startProxy(engine.endpoint, () =>
    awsError(
      "AccessDeniedException",
      "no AKIAenvironment, secret-of-the-environment, token-of-the-environment",
    ),
  );
  const source = { ...unreachable, access_key: undefined, secret_key: undefined, endpoint: proxy.endpoint };
  const { stderr } = await run(
    "check",
    { source },
    { env: { ...KEYS, AWS_SESSION_TOKEN: "token-of-the-environment" } },
  );
  expect(stderr).toEqual([expect.stringContaining("no ***, ***, ***")]);
});
