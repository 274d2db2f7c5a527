import { expect, test } from "bun:test";
import { awsError, startProxy } from "../support/proxy.ts";
import { type StepName, type Steps, unreachable } from "../support/step.ts";
import { describeSteps, describeSubjects } from "../support/subjects.ts";

const words: Record<StepName, string[]> = { check: [], in: ["/tmp"], out: ["/tmp"] };

/** Expects exit 1, nothing on stdout and one line on stderr, with neither key nor value in it. */
async function expectFailure(
  { run }: Steps,
  step: StepName,
  source: Record<string, unknown>,
  line: RegExp,
  env = {},
): Promise<void> {
  const request = { source, params: { value: "marker-of-the-value" } };
  const { status, stdout, stderr } = await run(step, request, { words: words[step], env });
  expect({ status, stdout, stderr }).toEqual({
    status: 1,
    stdout: "",
    stderr: [expect.stringMatching(line)],
  });
  expect(stderr.join()).not.toMatch(/secret-of-the-tests|marker-of/);
}

describeSubjects("a failure", ({ createTable, ...steps }) => {
  const { run, answerOf } = steps;

  test.concurrent.each<StepName>(["check", "out"])(
    "%s tells which table there is not, and how to make it",
    async (step) => {
      await using table = await createTable();
      const source = { ...table.source, table_name: "no-such-table", partition_key: "my key" };
      await expectFailure(
        steps,
        step,
        source,
        /^table no-such-table in us-east-1 does not exist.*: aws dynamodb create-table --region us-east-1 --endpoint-url http:\/\/127\.0\.0\.1:\d+ --table-name no-such-table --billing-mode PAY_PER_REQUEST --attribute-definitions AttributeName='my key',AttributeType=S AttributeName=created,AttributeType=S --key-schema AttributeName='my key',KeyType=HASH AttributeName=created,KeyType=RANGE$/,
      );
    },
  );

  test.concurrent.each<[string, StepName, string, string | null]>([
    ["check", "check", "application", null],
    ["out", "out", "application", null],
    ["check, with another sort key", "check", "application", "time"],
    ["out, with another sort key", "out", "application", "time"],
    ["check, with another partition key", "check", "app", "created"],
    ["out, with another partition key", "out", "app", "created"],
  ])("a table without the right keys: %s", async (_, step, partitionKey, sortKey) => {
    await using table = await createTable({ partitionKey, sortKey });
    const source = { ...table.source, partition_key: "application" };
    await expectFailure(
      steps,
      step,
      source,
      /^table \S+ in us-east-1 does not have the keys this resource needs \(partition key "application" and sort key "created".* aws dynamodb describe-table .*--query Table.KeySchema$/,
    );
    expect(await table.items()).toEqual([]);
  });

  const everywhere = ["check", "out"] as const;

  test.concurrent.each<[string, () => Response, RegExp, readonly StepName[]]>([
    [
      "access denied",
      () =>
        awsError(
          "AccessDeniedException",
          "User: arn:aws:iam::1:user/ci is not authorized to perform: dynamodb:Query",
        ),
      /^table \S+ in us-east-1: these credentials are not allowed to call dynamodb:Query; allow it .*user\/ci/,
      everywhere,
    ],
    [
      "an unknown access key",
      () => awsError("UnrecognizedClientException", "The security token included in the request is invalid."),
      /^DynamoDB does not know source\.access_key; /,
      everywhere,
    ],
    [
      "a wrong secret key",
      () =>
        awsError("InvalidSignatureException", "The Canonical String should have been: secret-of-the-tests"),
      /^DynamoDB rejected the signature made with source\.secret_key; .*clock/,
      everywhere,
    ],
    [
      "an expired token",
      () => awsError("ExpiredTokenException", "The security token included in the request is expired"),
      /^DynamoDB rejected source\.session_token: it has expired/,
      everywhere,
    ],
    ...["ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"].map(
      (name): [string, () => Response, RegExp, readonly StepName[]] => [
        name,
        () => awsError(name, "slow down"),
        /^table \S+ in us-east-1: DynamoDB throttled dynamodb:Query \(\d+ attempts\); raise the table's capacity/,
        ["check"],
      ],
    ),
    [
      "another refusal",
      () => awsError("ValidationException", "One or more parameter values were invalid"),
      /^table \S+ in us-east-1: DynamoDB rejected dynamodb:Query: One or more/,
      everywhere,
    ],
    [
      "a failure of DynamoDB",
      () => awsError("InternalServerError", "try\nagain", 500),
      /^table \S+ in us-east-1: DynamoDB answered dynamodb:Query with InternalServerError \(HTTP 500, \d+ attempts\): try again$/,
      ["check"],
    ],
    [
      "a captive portal",
      () =>
        new Response("<html>Log in first, marker-of-the-portal</html>", {
          headers: { "content-type": "text/html" },
        }),
      /^127\.0\.0\.1:\d+ did not answer like DynamoDB \(HTTP 200, 4 attempts\); check the endpoint/,
      everywhere,
    ],
    [
      "a redirect",
      () => Response.redirect("http://127.0.0.1:1/", 302),
      /^127\.0\.0\.1:\d+ did not answer like DynamoDB \(HTTP 302, \d+ attempts?\)/,
      everywhere,
    ],
    [
      "a broken gateway",
      () => new Response("<html>Bad gateway</html>", { status: 502 }),
      /^127\.0\.0\.1:\d+ did not answer like DynamoDB \(HTTP 502, \d+ attempts?\)/,
      ["check"],
    ],
  ])("%s is told in one line", async (_, answer, line, told) => {
    await using table = await createTable();
    await using proxy = startProxy(table.source.endpoint, answer);
    const source = { ...table.source, endpoint: proxy.endpoint };
    await Promise.all(told.map((step) => expectFailure(steps, step, source, line)));
    expect(await table.items()).toEqual([]);
  });

  test.concurrent("what DynamoDB says is shown without the keys that it quotes", async () => {
    await using table = await createTable();
    await using proxy = startProxy(table.source.endpoint, () =>
      awsError("AccessDeniedException", "no AKIAtest, secret-of-the-tests"),
    );
    const { stderr } = await run("check", { source: { ...table.source, endpoint: proxy.endpoint } });
    expect(stderr).toEqual([expect.stringContaining("no ***, ***")]);
  });

  test.concurrent.each<[string, number, () => Response]>([
    ["throttling", 3, () => awsError("ThrottlingException", "slow down")],
    ["a failure of DynamoDB", 3, () => awsError("InternalServerError", "try again", 500)],
    [
      "a damaged answer",
      3,
      () =>
        Response.json({}, { headers: { "x-amz-crc32": "1", "content-type": "application/x-amz-json-1.0" } }),
    ],
  ])("after %s, %d times, a step succeeds", async (_, times, answer) => {
    await using table = await createTable();
    let failed = 0;
    await using proxy = startProxy(table.source.endpoint, ({ operation }) =>
      operation !== "UpdateItem" && failed++ < times ? answer() : undefined,
    );
    const source = { ...table.source, endpoint: proxy.endpoint };
    const { version } = await answerOf<{ version: unknown }>(
      "out",
      { source, params: { value: "1" } },
      { words: ["/tmp"] },
    );
    expect(failed).toBeGreaterThan(times);
    expect(await answerOf<unknown>("check", { source })).toEqual([version]);
  });

  test.concurrent("credentials of the environment are taken where the source has none", async () => {
    await using table = await createTable();
    await using proxy = startProxy(table.source.endpoint, () => undefined);
    const { access_key, secret_key, ...others } = table.source;
    const source = { ...others, endpoint: proxy.endpoint };
    const keys = { AWS_ACCESS_KEY_ID: "AKIAenvironment", AWS_SECRET_ACCESS_KEY: secret_key };
    await answerOf("check", { source }, { env: { ...keys, AWS_SESSION_TOKEN: "a-token" } });
    expect(proxy.asked.at(-1)).toMatchObject({
      authorization: expect.stringContaining("=AKIAenvironment/"),
      token: "a-token",
    });
    await answerOf(
      "check",
      { source: { ...source, access_key, secret_key, session_token: "another" } },
      { env: keys },
    );
    expect(proxy.asked.at(-1)).toMatchObject({
      authorization: expect.stringContaining("=AKIAtest/"),
      token: "another",
    });
  });
});

describeSteps("without a DynamoDB", (steps) => {
  const source = { ...unreachable, endpoint: undefined };

  test.concurrent.each<StepName>(["check", "out"])("%s tells that nobody listens", async (step) => {
    await expectFailure(
      steps,
      step,
      { ...source, endpoint: "http://127.0.0.1:1" },
      /^127\.0\.0\.1:1 refused the connection; check the endpoint, the network and the proxy/,
    );
  });

  test.concurrent("check tells that there is no such host", async () => {
    await expectFailure(
      steps,
      "check",
      { ...source, endpoint: "http://no-such-host.invalid" },
      /^the host no-such-host\.invalid was not found \((ENOTFOUND|EAI_AGAIN)\); /,
    );
  });

  test.concurrent("check tells that there are no credentials", async () => {
    const { access_key: _, secret_key: __, ...others } = source;
    await expectFailure(
      steps,
      "check",
      { ...others, endpoint: "http://127.0.0.1:1" },
      /^no AWS credentials found: set source.access_key and /,
      {
        AWS_EC2_METADATA_DISABLED: "true",
      },
    );
  });

  test.concurrent("a proxy of the environment is used", async () => {
    const seen: string[] = [];
    using proxy = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: (request) => {
        seen.push(request.url);
        return awsError("AccessDeniedException", "by way of the proxy");
      },
    });
    const env = { http_proxy: proxy.url.origin };
    await expectFailure(
      steps,
      "check",
      { ...source, endpoint: "http://dynamodb.invalid" },
      /by way of the proxy/,
      env,
    );
    expect(seen).toEqual(["http://dynamodb.invalid/"]);
  });

  test.concurrent("a silent source of credentials ends a step in seconds, and it says so", async () => {
    using silent = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
    const { access_key: _, secret_key: __, ...others } = source;
    const uri = `http://127.0.0.1:${silent.port}/credentials`;
    await expectFailure(
      steps,
      "check",
      others,
      /^AWS_CONTAINER_CREDENTIALS_FULL_URI returned no credentials: /,
      {
        AWS_CONTAINER_CREDENTIALS_FULL_URI: uri,
      },
    );
  });

  test.concurrent("a region of the environment that is none is told", async () => {
    await expectFailure(steps, "check", source, /^AWS_REGION: "not a region!" is not a valid AWS region/, {
      AWS_REGION: "not a region!",
    });
  });

  test.concurrent("a silent endpoint ends a step within a minute, and it says so", async () => {
    using silent = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
    const endpoint = `http://127.0.0.1:${silent.port}`;
    const line = /^127\.0\.0\.1:\d+ gave no answer within 10 s \(4 attempts\); check the endpoint/;
    await Promise.all([
      expectFailure(steps, "check", { ...source, endpoint }, line),
      expectFailure(steps, "out", { ...source, endpoint }, line),
    ]);
  });
});
