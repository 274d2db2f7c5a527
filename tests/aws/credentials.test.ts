import { afterAll, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { awsError, startProxy } from "../support/proxy.ts";
import type { Answer } from "../support/step.ts";
import { startSts } from "../support/sts.ts";
import { describeSubjects } from "../support/subjects.ts";

const folder = await mkdtemp(`${tmpdir()}/credentials-`);
afterAll(() => rm(folder, { recursive: true }));

const words = ["/tmp"];
const role = (name: string) => `arn:aws:iam::123456789012:role/${name}`;
const KEYS = { AKIAtest: "secret-of-the-tests" };

describeSubjects("credentials", ({ createTable, run, answerOf }) => {
  test("one role is assumed with the given keys, in the table's region", async () => {
    await using table = await createTable();
    await using proxy = startProxy(table.source.endpoint, () => undefined);
    using sts = startSts(KEYS);
    const source = {
      ...table.source,
      endpoint: proxy.endpoint,
      region: "eu-west-1",
      role_arn: role("ci"),
      external_id: "an-id",
    };
    await run("check", { source }, { env: { AWS_ENDPOINT_URL_STS: sts.endpoint } });
    expect(sts.asked).toEqual([
      {
        parameters: expect.objectContaining({
          Action: "AssumeRole",
          RoleArn: role("ci"),
          RoleSessionName: "dynamo-keyval-resource",
          ExternalId: "an-id",
        }),
        signedBy: "AKIAtest",
        region: "eu-west-1",
      },
    ]);
    expect(proxy.asked[0]).toMatchObject({
      authorization: expect.stringContaining("=ASIA1ci/"),
      token: "token-of-ASIA1ci",
    });
  });

  test("a list of roles is assumed in turn, each with what the one before gave", async () => {
    await using table = await createTable();
    await using proxy = startProxy(table.source.endpoint, () => undefined);
    using sts = startSts(KEYS);
    const source = {
      ...table.source,
      endpoint: proxy.endpoint,
      role_arn: [role("hub"), role("team")],
      role_session_name: "me",
    };
    const env = { AWS_ENDPOINT_URL_STS: sts.endpoint };
    await answerOf("out", { source, params: { value: "1" } }, { words, env });
    expect(
      sts.asked.map(({ parameters, signedBy }) => [parameters.RoleArn, parameters.RoleSessionName, signedBy]),
    ).toEqual([
      [role("hub"), "me", "AKIAtest"],
      [role("team"), "me", "ASIA1hub"],
    ]);
    expect(proxy.asked.every(({ token }) => token === "token-of-ASIA2team")).toBeTrue();
  });

  test.each<[string, Record<string, string>, string]>([
    [
      "pipeline and job",
      { BUILD_PIPELINE_NAME: "my app (new)", BUILD_JOB_NAME: "build" },
      "my-app--new--build",
    ],
    [
      "64 characters of them",
      { BUILD_PIPELINE_NAME: "p".repeat(60), BUILD_JOB_NAME: "build" },
      `${"p".repeat(60)}-bui`,
    ],
    ["the resource outside of a job", {}, "dynamo-keyval-resource"],
  ])("the session of a put is named after %s", async (_, env, name) => {
    await using table = await createTable();
    using sts = startSts(KEYS);
    const source = { ...table.source, role_arn: role("ci") };
    await answerOf(
      "out",
      { source, params: { value: "1" } },
      { words, env: { ...env, AWS_ENDPOINT_URL_STS: sts.endpoint } },
    );
    expect(sts.asked[0]?.parameters.RoleSessionName).toBe(name);
    await answerOf("check", { source }, { env: { ...env, AWS_ENDPOINT_URL_STS: sts.endpoint } });
    expect(sts.asked[1]?.parameters.RoleSessionName).toBe("dynamo-keyval-resource");
  });

  test("a web identity token takes the role without any key", async () => {
    await using table = await createTable();
    await using proxy = startProxy(table.source.endpoint, () => undefined);
    using sts = startSts({});
    const { access_key: _, secret_key: __, ...keyless } = table.source;
    const source = { ...keyless, endpoint: proxy.endpoint, role_arn: [role("ci"), role("team")] };
    const params = { value: "1", web_identity_token: "header.payload.signature" };
    const { version } = await answerOf<Answer>(
      "out",
      { source, params },
      { words, env: { AWS_ENDPOINT_URL_STS: sts.endpoint } },
    );
    expect(version.value).toBe("1");
    expect(sts.asked).toMatchObject([
      {
        parameters: {
          Action: "AssumeRoleWithWebIdentity",
          RoleArn: role("ci"),
          WebIdentityToken: params.web_identity_token,
        },
      },
      { parameters: { Action: "AssumeRole", RoleArn: role("team") }, signedBy: "ASIA1ci" },
    ]);
    expect(proxy.asked[0]?.token).toBe("token-of-ASIA2team");
  });

  test("a web identity file of the environment is taken where nothing is given", async () => {
    await using table = await createTable();
    await using proxy = startProxy(table.source.endpoint, () => undefined);
    using sts = startSts({});
    await writeFile(`${folder}/token`, "header.payload.signature");
    const { access_key: _, secret_key: __, ...keyless } = table.source;
    const env = {
      AWS_WEB_IDENTITY_TOKEN_FILE: `${folder}/token`,
      AWS_ROLE_ARN: role("pod"),
      AWS_ENDPOINT_URL_STS: sts.endpoint,
    };
    await run("check", { source: { ...keyless, endpoint: proxy.endpoint } }, { env });
    expect(sts.asked).toMatchObject([
      { parameters: { WebIdentityToken: "header.payload.signature", RoleArn: role("pod") } },
    ]);
    expect(proxy.asked[0]?.token).toBe("token-of-ASIA1pod");
  });

  test("a container's credentials are taken where nothing is given", async () => {
    await using table = await createTable();
    await using proxy = startProxy(table.source.endpoint, () => undefined);
    const authorizations: (string | null)[] = [];
    using metadata = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: (request) => {
        authorizations.push(request.headers.get("authorization"));
        return Response.json({
          AccessKeyId: "ASIApod",
          SecretAccessKey: "secret-of-the-pod",
          Token: "token-of-the-pod",
          Expiration: "2999-01-01T00:00:00Z",
        });
      },
    });
    const { access_key: _, secret_key: __, ...keyless } = table.source;
    const env = {
      AWS_CONTAINER_CREDENTIALS_FULL_URI: `${metadata.url.origin}/pod`,
      AWS_CONTAINER_AUTHORIZATION_TOKEN: "pass",
    };
    await run("check", { source: { ...keyless, endpoint: proxy.endpoint } }, { env });
    expect(authorizations).toEqual(["pass"]);
    expect(proxy.asked[0]).toMatchObject({
      authorization: expect.stringContaining("=ASIApod/"),
      token: "token-of-the-pod",
    });
  });

  test("an instance's credentials are taken where nothing is given", async () => {
    await using table = await createTable();
    await using proxy = startProxy(table.source.endpoint, () => undefined);
    const asked: string[] = [];
    const answers: Record<string, string> = {
      "PUT /latest/api/token": "a-session",
      "GET /latest/meta-data/iam/security-credentials/": "worker",
      "GET /latest/meta-data/iam/security-credentials/worker": JSON.stringify({
        AccessKeyId: "ASIAworker",
        SecretAccessKey: "secret-of-the-worker",
        Token: "token-of-the-worker",
        Expiration: "2999-01-01T00:00:00Z",
      }),
    };
    using metadata = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: ({ method, url, headers }) => {
        const what = `${method} ${new URL(url).pathname}`;
        asked.push(`${what} ${headers.get("x-aws-ec2-metadata-token")}`);
        return new Response(answers[what] ?? "", { status: what in answers ? 200 : 404 });
      },
    });
    const { access_key: _, secret_key: __, ...keyless } = table.source;
    const env = { AWS_EC2_METADATA_SERVICE_ENDPOINT: metadata.url.origin };
    await run("check", { source: { ...keyless, endpoint: proxy.endpoint } }, { env });
    expect(asked).toContain("GET /latest/meta-data/iam/security-credentials/worker a-session");
    expect(proxy.asked[0]).toMatchObject({ token: "token-of-the-worker" });
  });

  test.each<[string, Record<string, unknown>, Record<string, unknown>, RegExp]>([
    [
      "a role",
      { role_arn: role("refused") },
      {},
      /^the role arn:aws:iam::123456789012:role\/refused cannot be assumed; check its trust policy and source\.external_id \(STS: AccessDenied: not authorized to perform: sts:AssumeRole\)$/,
    ],
    [
      "a token",
      { role_arn: role("refused") },
      { web_identity_token: "marker-of-a-token" },
      /^params\.web_identity_token cannot assume the role arn:aws:iam::123456789012:role\/refused; check its trust policy \(STS: AccessDenied/,
    ],
    [
      "a profile that is not there",
      { profile: "none", access_key: undefined, secret_key: undefined },
      {},
      /^source\.profile: the profile "none" was not found in the shared AWS files$/,
    ],
  ])("what STS refuses is told in one line: %s", async (_, fields, params, line) => {
    await using table = await createTable();
    using sts = startSts(KEYS);
    const request = { source: { ...table.source, ...fields }, params: { value: "1", ...params } };
    const { status, stdout, stderr } = await run("out", request, {
      words,
      env: { AWS_ENDPOINT_URL_STS: sts.endpoint },
    });
    expect({ status, stdout, stderr }).toEqual({
      status: 1,
      stdout: "",
      stderr: [expect.stringMatching(line)],
    });
    expect(await table.items()).toEqual([]);
  });

  test("what DynamoDB refuses of an assumed role is not blamed on the source's keys", async () => {
    await using table = await createTable();
    await using proxy = startProxy(table.source.endpoint, () => awsError("ExpiredTokenException", "expired"));
    using sts = startSts(KEYS);
    const source = { ...table.source, endpoint: proxy.endpoint, role_arn: role("ci") };
    const { status, stderr } = await run(
      "check",
      { source },
      { env: { AWS_ENDPOINT_URL_STS: sts.endpoint } },
    );
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: ["DynamoDB rejected the session token of the assumed role: it has expired; get a new one"],
    });
  });

  test.each<[string, Record<string, unknown>, string]>([
    ["FIPS", { use_fips: true }, "dynamodb-fips.us-east-1.amazonaws.com"],
    ["IPv4 and IPv6", { use_dualstack: "true" }, "dynamodb.us-east-1.api.aws"],
    ["neither", {}, "dynamodb.us-east-1.amazonaws.com"],
  ])("the endpoint for %s is the SDK's own", async (_, fields, host) => {
    await using table = await createTable();
    const { endpoint: __, ...source } = table.source;
    using proxy = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: () => awsError("AccessDeniedException", "no"),
    });
    const { stderr } = await run(
      "check",
      { source: { ...source, ...fields, debug: true } },
      { env: { https_proxy: proxy.url.origin } },
    );
    expect(stderr.join("\n")).toContain(host);
  });

  test("debug tells what is asked and how long it takes, without secrets and values", async () => {
    await using table = await createTable();
    const source = { ...table.source, debug: true };
    const { status, stdout, stderr } = await run(
      "out",
      { source, params: { value: "marker-of-the-value" } },
      { words },
    );
    expect({ status, lines: stderr.length }).toEqual({ status: 0, lines: 4 });
    for (const [index, operation] of ["Query", "Query", "UpdateItem", "PutItem"].entries()) {
      expect(stderr[index]).toMatch(
        new RegExp(
          `^debug: DynamoDB_20120810\\.${operation} at 127\\.0\\.0\\.1:\\d+: HTTP 200, \\d+ bytes, \\d+\\.\\d ms$`,
        ),
      );
    }
    expect(stderr.join("\n")).not.toMatch(/marker-of-the-value|secret-of-the-tests|AKIAtest/);
    expect(JSON.parse(stdout).version.value).toBe("marker-of-the-value");
  });
});
