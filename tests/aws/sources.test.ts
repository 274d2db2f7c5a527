import { afterAll, expect, test } from "bun:test";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { createAuthority } from "../support/authority.ts";
import { startDynalite } from "../support/engine.ts";
import { startProxy } from "../support/proxy.ts";
import { dist, unreachable } from "../support/step.ts";
import { startSts } from "../support/sts.ts";
import { createTable } from "../support/table.ts";

// From dist alone, on dynalite: what is broken here is on the way to the credentials or to the table.
const { run } = dist;
const engine = await startDynalite();
const role = "arn:aws:iam::123456789012:role/ci";
const { access_key: _, secret_key: __, ...keyless } = unreachable;
const { endpoint: ___, ...regional } = unreachable;

const folder = await mkdtemp(`${tmpdir()}/sources-`);
afterAll(() => rm(folder, { recursive: true }));

async function program(name: string, body: string): Promise<string> {
  await writeFile(`${folder}/${name}`, `#!/bin/sh\n${body}\n`);
  await chmod(`${folder}/${name}`, 0o755);
  return `${folder}/${name}`;
}

const failing = await program("failing", "echo 'denied: marker-of-a-token' >&2; exit 3");
const CONFIG = `[default]
region = eu west
[profile failing]
credential_process = ${failing} --password marker-of-a-password
[profile session]
sso_session = missing
sso_account_id = 123456789012
sso_role_name = ci
`;
await writeFile(`${folder}/config`, CONFIG);

const OFF = { AWS_EC2_METADATA_DISABLED: "true" };
const FILES = { AWS_CONFIG_FILE: `${folder}/config`, AWS_SHARED_CREDENTIALS_FILE: "/dev/null" };

function serve(answer: () => Response, tls?: { cert: string; key: string }) {
  return Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: answer, ...(tls && { tls }) });
}

/** What a check that must fail says, without what must not be shown. */
async function failureOf(source: object, env: Record<string, string>): Promise<string[]> {
  const { status, stdout, stderr } = await run("check", { source }, { env: { ...OFF, ...env } });
  expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
  expect(stderr.join("\n")).not.toMatch(/marker-of/);
  return stderr;
}

test.each<[string, object, Record<string, string>, string]>([
  [
    "a program that fails, but not its command line and what it printed",
    { ...keyless, region: "eu-west-1", profile: "failing" },
    FILES,
    'source.profile: the profile "failing" returned no credentials: its credential_process failed; run it in a shell to see why',
  ],
  [
    "a profile whose sso_session is missing",
    { ...keyless, region: "eu-west-1", profile: "session" },
    FILES,
    'source.profile: the profile "session" returned no credentials: its settings are incomplete',
  ],
  [
    "a container's token file that is missing",
    { ...keyless, region: "eu-west-1" },
    {
      AWS_CONTAINER_CREDENTIALS_FULL_URI: "http://127.0.0.1:1/",
      AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: "/no/such/file",
    },
    'AWS_CONTAINER_CREDENTIALS_FULL_URI returned no credentials: "/no/such/file" does not exist',
  ],
  [
    "a container's address that is no URL",
    { ...keyless, region: "eu-west-1" },
    { AWS_CONTAINER_CREDENTIALS_FULL_URI: "127.0.0.1/marker-of-a-path" },
    "AWS_CONTAINER_CREDENTIALS_FULL_URI returned no credentials: it is not a valid URL",
  ],
  [
    "a profile's region that is none",
    keyless,
    { ...FILES, AWS_ACCESS_KEY_ID: "AKIAenvironment", AWS_SECRET_ACCESS_KEY: "secret-of-the-environment" },
    'the AWS profile "default": "eu west" is not a valid AWS region (example: eu-west-1)',
  ],
  [
    "STS's endpoint that is none",
    { ...unreachable, role_arn: role },
    { AWS_ENDPOINT_URL_STS: "sts:8000 x" },
    "AWS_ENDPOINT_URL_STS is not a valid endpoint: it must be an http:// or https:// URL without user, query and fragment",
  ],
  [
    "the endpoint of all services that is none, beside source.endpoint",
    { ...unreachable, role_arn: role },
    { AWS_ENDPOINT_URL: "localhost" },
    "AWS_ENDPOINT_URL is not a valid endpoint: it must be an http:// or https:// URL without user, query and fragment",
  ],
  [
    "an STS over plain HTTP, without a proxy that is for HTTPS",
    { ...unreachable, role_arn: role },
    { AWS_ENDPOINT_URL_STS: "http://127.0.0.1:1", https_proxy: "http://127.0.0.1:2" },
    "127.0.0.1:1 refused the connection while assuming a role at STS; check the network and the proxy settings",
  ],
  [
    "no proxy of a network that is excepted",
    { ...unreachable, endpoint: "http://127.0.0.1:1" },
    { http_proxy: "http://127.0.0.1:2", no_proxy: "LOCALHOST, 127.0.0.0/8" },
    "127.0.0.1:1 refused the connection; check the endpoint, the network and the proxy settings",
  ],
  [
    "the proxy where an exception only looks like the end of an address",
    { ...unreachable, endpoint: "http://127.0.0.1:1" },
    { http_proxy: "http://127.0.0.1:2", no_proxy: "0.0.1" },
    "127.0.0.1:1: the proxy http://127.0.0.1:2 (http_proxy) refused the connection; check the endpoint, the network and the proxy settings",
  ],
  [
    "no proxy that NO_PROXY excepts beside an empty no_proxy",
    { ...regional, endpoint: "https://127.0.0.1:1" },
    { https_proxy: "http://127.0.0.1:2", no_proxy: "", NO_PROXY: "127.0.0.1" },
    "127.0.0.1:1 refused the connection; check the endpoint, the network and the proxy settings",
  ],
])("names %s", async (____, source, env, line) => {
  expect(await failureOf(source, env)).toEqual([line]);
});

test("both use_fips and use_dualstack beside an endpoint are mistakes, told at once", async () => {
  expect(await failureOf({ ...unreachable, use_fips: true, use_dualstack: true }, {})).toEqual([
    "source.use_fips cannot be used with an endpoint",
    "source.use_dualstack cannot be used with an endpoint",
  ]);
});

test("a container's answer that is no JSON is not quoted", async () => {
  using container = serve(() => new Response('{"SecretAccessKey": marker-of-a-key}'));
  const env = { AWS_CONTAINER_CREDENTIALS_FULL_URI: container.url.origin };
  expect(await failureOf({ ...keyless, region: "eu-west-1" }, env)).toEqual([
    "AWS_CONTAINER_CREDENTIALS_FULL_URI returned no credentials: its answer is not valid JSON",
  ]);
});

test("a container's certificate is verified whatever NODE_TLS_REJECT_UNAUTHORIZED says", async () => {
  const authority = await createAuthority("Tests");
  const keys = { AccessKeyId: "ASIApod", SecretAccessKey: "secret-of-the-pod", Token: "token" };
  await using table = await createTable(engine);
  using container = serve(
    () => Response.json({ ...keys, Expiration: "2999-01-01T00:00:00Z" }),
    await authority.certify(),
  );
  const { access_key: _____, secret_key: ______, ...source } = table.source;
  const env = {
    AWS_CONTAINER_CREDENTIALS_FULL_URI: `https://127.0.0.1:${container.port}/`,
    NODE_TLS_REJECT_UNAUTHORIZED: "0",
  };
  expect(await failureOf(source, env)).toEqual([
    expect.stringMatching(/^AWS_CONTAINER_CREDENTIALS_FULL_URI returned no credentials: .*certificate/),
  ]);
});

test.each([200, 403])(
  "what another than STS answers is no matter of a trust policy: HTTP %d",
  async (status) => {
    using portal = serve(() => new Response("<html>Log in</html>", { status }));
    const env = { AWS_ENDPOINT_URL_STS: portal.url.origin };
    expect(await failureOf({ ...unreachable, role_arn: role }, env)).toEqual([
      `${portal.url.host} did not answer like STS (HTTP ${status}, 4 attempts); check the network and the proxy settings`,
    ]);
  },
);

test("what a proxy for plain HTTP answers is told with the proxy, without its password", async () => {
  using proxy = serve(() => new Response("<html>blocked</html>", { status: 403 }));
  const env = { http_proxy: `http://user:marker-of-a-password@127.0.0.1:${proxy.port}` };
  expect(await failureOf({ ...unreachable, endpoint: "http://dynamodb.example" }, env)).toEqual([
    `dynamodb.example, through the proxy ${proxy.url.origin} (http_proxy), did not answer like DynamoDB (HTTP 403, 4 attempts); check the endpoint, the network and the proxy settings`,
  ]);
});

test.each<[string, object, object]>([
  ["keys", {}, {}],
  ["keys and a role", { role_arn: role }, {}],
  [
    "a token and two roles",
    { access_key: undefined, secret_key: undefined, role_arn: [role, role] },
    { web_identity_token: "header.payload.signature" },
  ],
])("with %s no shared AWS file is opened", async (____, fields, params) => {
  // Who opens a pipe that nobody writes to waits for ever.
  const pipe = `${folder}/pipe-${crypto.randomUUID()}`;
  await Bun.$`mkfifo ${pipe}`;
  await using table = await createTable(engine);
  await using proxy = startProxy(table.source.endpoint, () => undefined);
  using sts = startSts({ AKIAtest: "secret-of-the-tests" });
  const { region: _____, ...given } = table.source;
  const source = { ...given, ...fields, endpoint: proxy.endpoint };
  const env = {
    AWS_CONFIG_FILE: pipe,
    AWS_SHARED_CREDENTIALS_FILE: pipe,
    AWS_PROFILE: "dev",
    AWS_ENDPOINT_URL_STS: sts.endpoint,
  };
  const { status, stderr } = await run(
    "out",
    { source, params: { value: "1", ...params } },
    { words: ["/tmp"], env },
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: [] });
  expect(proxy.asked[0]?.authorization).toContain("/us-east-1/");
});
