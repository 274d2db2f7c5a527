import { expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { oldStyleCreated } from "../../shared/created.ts";
import { type Build, startConcourse } from "../support/concourse.ts";
import { type Asked, awsError, startProxy } from "../support/proxy.ts";
import { startDynalite } from "../support/engine.ts";
import { describeSteps } from "../support/subjects.ts";
import { createTable, type TestTable } from "../support/table.ts";

const engine = await startDynalite();

const EXAMPLES = `${import.meta.dir}/../examples`;
const HOUR = 3_600_000;
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** What an IAM policy of the resource says. */
interface Policy {
  Statement: {
    Effect: string;
    Action: string[];
    Resource: string;
    Condition: { "ForAllValues:StringEquals": { "dynamodb:LeadingKeys": string[] } };
  }[];
}

const succeeded = (job: string, printed: string): Partial<Build> => ({ job, error: undefined, printed });

/** The key that a request reads or writes. */
function leadingKeyOf({ body }: Asked, partitionKey: string): string | undefined {
  const {
    Item,
    Key,
    ExpressionAttributeValues: values,
  } = body as Record<string, Record<string, { S: string }>>;
  const [, placeholder = ""] = /= (:\w+)/.exec(`${body.KeyConditionExpression as string | undefined}`) ?? [];
  return (Item ?? Key)?.[partitionKey]?.S ?? values?.[placeholder]?.S;
}

describeSteps("the example", ({ answerOf }) => {
  const concourseOf = ({ source }: TestTable, endpoint = source.endpoint) =>
    startConcourse({ answerOf }, endpoint, {
      aws: { "access-key": source.access_key, "secret-key": source.secret_key },
    });

  /** Values of the table by key, the oldest first. */
  const valuesIn = async (table: TestTable) => {
    const values: Record<string, string[]> = {};
    for (const item of await table.items()) {
      (values[item[table.source.partition_key]!] ??= []).push(item.value!);
    }
    return values;
  };

  test("build.yml and deploy.yml hand a version from one pipeline to the other", async () => {
    await using table = await createTable(engine, { name: "packages-table" });
    await using concourse = await concourseOf(table);
    const build = await concourse.setPipeline("build", `${EXAMPLES}/build.yml`);
    const deploy = await concourse.setPipeline("deploy", `${EXAMPLES}/deploy.yml`);
    expect(await deploy.tick()).toEqual([]);

    build.push("source-code", { VERSION: "1.2\n" });
    const [built] = await build.tick();
    expect(built).toMatchObject(succeeded("build", "Building package-1.2\n"));
    const [deployed, ...others] = await deploy.tick();
    expect(deployed).toMatchObject(succeeded("deploy", "Artifact is package-1.2\n"));
    expect(others).toEqual([]);
    expect(deployed?.inputs).toEqual({ ...built?.outputs });
    expect(await table.items()).toMatchObject([
      {
        application: "my-app",
        ...built?.outputs.artifacts,
        put_build: "https://ci.example.com/teams/main/pipelines/build/jobs/build/builds/1",
      },
    ]);

    build.push("source-code", { VERSION: "1.3\n" });
    await build.tick();
    expect(await deploy.tick()).toMatchObject([succeeded("deploy", "Artifact is package-1.3\n")]);
    expect([await build.tick(), await deploy.tick()]).toEqual([[], []]);
    expect(await valuesIn(table)).toEqual({ "my-app": ["package-1.2", "package-1.3"] });
    expect(build.versions("artifacts")).toEqual(deploy.versions("artifacts"));
  });

  test("fan-out.yml gives each value to each site's pipeline exactly once", async () => {
    await using table = await createTable(engine, { name: "packages-table" });
    await using concourse = await concourseOf(table);
    const build = await concourse.setPipeline("build", `${EXAMPLES}/build.yml`);
    const sites = ["vienna", "graz", "linz"];
    const consumers = await Promise.all(
      sites.map((site) => concourse.setPipeline(`deploy-${site}`, `${EXAMPLES}/fan-out.yml`, { site })),
    );
    const release = async (...versions: string[]) => {
      for (const version of versions) {
        build.push("source-code", { VERSION: version });
        await build.tick();
      }
      return Promise.all(consumers.map((consumer) => consumer.tick()));
    };
    const each = (...values: string[]) =>
      sites.map((site) => values.map((value) => succeeded("deploy", `${value} to ${site}\n`)));
    expect(await release("1.0")).toMatchObject(each("package-1.0"));
    expect(await release("1.1", "1.2")).toMatchObject(each("package-1.1", "package-1.2"));
    expect(await release()).toEqual(sites.map(() => []));
    expect(await valuesIn(table)).toEqual({
      "my-app": ["package-1.0", "package-1.1", "package-1.2"],
    });
  });

  test("promotion.yml takes to production exactly what was built and tried out", async () => {
    await using table = await createTable(engine, { name: "packages-table" });
    await using concourse = await concourseOf(table);
    const pipeline = await concourse.setPipeline("promotion", `${EXAMPLES}/promotion.yml`);
    pipeline.push("source-code", { VERSION: "1.0\n" });
    expect(await pipeline.tick()).toMatchObject([
      succeeded("build", "Built package-1.0\n"),
      succeeded("try-out", "package-1.0 is fine\n"),
    ]);
    expect(await valuesIn(table)).toEqual({
      "my-app/dev": ["package-1.0"],
      "my-app/staging": ["package-1.0"],
    });

    pipeline.push("source-code", { VERSION: "1.1-broken\n" });
    expect(await pipeline.tick()).toMatchObject([
      succeeded("build", "Built package-1.1-broken\n"),
      {
        job: "try-out",
        error: expect.stringContaining("status 1"),
        printed: "package-1.1-broken fails\n",
        outputs: {},
      },
    ]);
    expect(await pipeline.run("release")).toMatchObject(succeeded("release", "Released package-1.0\n"));
    // Releasing the same once more makes no second version of it.
    expect(await pipeline.run("release")).toMatchObject(succeeded("release", "Released package-1.0\n"));
    expect(await valuesIn(table)).toEqual({
      "my-app/dev": ["package-1.0", "package-1.1-broken"],
      "my-app/staging": ["package-1.0"],
      "my-app/production": ["package-1.0"],
    });

    pipeline.push("source-code", { VERSION: "1.2\n" });
    await pipeline.tick();
    expect(await pipeline.run("release")).toMatchObject(succeeded("release", "Released package-1.2\n"));
    expect((await valuesIn(table))["my-app/production"]).toEqual(["package-1.0", "package-1.2"]);
  });

  test("feature-flags.yml takes the branch that the flags tell", async () => {
    await using table = await createTable(engine, { name: "packages-table" });
    await using concourse = await concourseOf(table);
    const pipeline = await concourse.setPipeline("flags", `${EXAMPLES}/feature-flags.yml`);
    const flags = (enabled: boolean, percent: number) =>
      JSON.stringify({ checkout: { enabled, percent } }, null, 2);
    const switchTo = (text: string) => {
      pipeline.push("flags-repository", { "my-app.json": `${text}\n` });
      return pipeline.tick();
    };
    expect(await switchTo(flags(false, 0))).toMatchObject([
      succeeded("switch", ""),
      succeeded("deploy", "The old checkout\n"),
    ]);
    expect(await switchTo(flags(true, 25))).toMatchObject([
      succeeded("switch", ""),
      succeeded("deploy", "The new checkout, for 25% instead of 0%\n"),
    ]);
    expect(await switchTo(flags(true, 25))).toMatchObject([succeeded("switch", "")]);
    expect(await valuesIn(table)).toEqual({
      "my-app/flags": [flags(false, 0), flags(true, 25)],
      "my-app/traffic": ["0", "25"],
    });
  });

  test("migration.yml goes on with the C# image's table and the versions that Concourse knows", async () => {
    await using table = await createTable(engine, { name: "packages-table" });
    await using concourse = await concourseOf(table);
    const old = [
      { created: "12/10/2023 13:21:01", value: "package-1.0" },
      { created: "12/11/2023 12:06:39", value: "package-1.1" },
      { created: "12/12/2023 18:02:04", value: "package-1.2" },
    ];
    await table.add(...old);
    const pipeline = await concourse.setPipeline("my-app", `${EXAMPLES}/migration.yml`);
    // Concourse knows the second one alone, and goes on from there.
    pipeline.versions("artifacts").push(...old.slice(1, 2));
    expect(await pipeline.tick()).toMatchObject([succeeded("deploy", "Artifact is package-1.2\n")]);
    expect(pipeline.versions("artifacts")).toEqual(old.slice(1));

    pipeline.push("version", { number: "1.3\n" });
    const [built, deployed] = await pipeline.tick();
    expect([built, deployed]).toMatchObject([
      succeeded("build", ""),
      succeeded("deploy", "Artifact is package-1.3\n"),
    ]);
    expect(built?.outputs.artifacts).toEqual({
      value: "package-1.3",
      created: expect.stringMatching(ISO) as string,
    });

    // Another pipeline still has the C# image.
    const late = { created: oldStyleCreated(Date.now() + 2000), value: "package-1.4" };
    await table.add(late);
    expect(await pipeline.tick()).toMatchObject([
      { ...succeeded("deploy", "Artifact is package-1.4\n"), inputs: { artifacts: late } },
    ]);
    pipeline.push("version", { number: "1.5\n" });
    const [newest] = await pipeline.tick();
    const all = [...old, built?.outputs.artifacts, late, newest?.outputs.artifacts];
    expect(await pipeline.check("artifacts")).toEqual(all.slice(1) as typeof old);

    const forgetful = await concourse.setPipeline("anew", `${EXAMPLES}/migration.yml`);
    expect(await forgetful.tick()).toMatchObject([succeeded("deploy", "Artifact is package-1.5\n")]);
    expect(forgetful.versions("artifacts")).toEqual(all as typeof old);
    expect(await table.items()).toEqual(
      expect.arrayContaining(old.map(({ created, value }) => ({ application: "my-app", created, value }))),
    );
  });

  test("team-table.yml asks for all that team-policy.json allows, and for nothing else", async () => {
    const policy: Policy = await Bun.file(`${EXAMPLES}/team-policy.json`).json();
    const { Effect, Action, Resource, Condition } = policy.Statement[0]!;
    expect(policy.Statement).toHaveLength(1);
    expect(Effect).toBe("Allow");
    expect(Action).toEqual([
      "dynamodb:Query",
      "dynamodb:PutItem",
      "dynamodb:UpdateItem",
      "dynamodb:DeleteItem",
    ]);
    const keys = Condition["ForAllValues:StringEquals"]["dynamodb:LeadingKeys"];

    await using table = await createTable(engine, { name: "payments-values", partitionKey: "name" });
    const hours = [60, 50, 40, 30, 20, 10];
    await table.add(
      ...hours.map((ago) => ({
        created: new Date(Date.now() - ago * HOUR).toISOString(),
        value: { name: { S: "api" }, value: { S: `${ago} hours` } },
      })),
    );
    await using iam = startProxy(table.source.endpoint, (asked) => {
      const allowed =
        Action.includes(`dynamodb:${asked.operation}`) &&
        Resource.endsWith(`:table/${asked.body.TableName as string}`) &&
        keys.includes(leadingKeyOf(asked, "name") ?? "");
      return allowed ? undefined : awsError("AccessDeniedException", "is not authorized to perform it");
    });
    await using concourse = await concourseOf(table, iam.endpoint);
    const file = `${EXAMPLES}/team-table.yml`;
    const pipeline = await concourse.setPipeline("values", file, { team: "payments" });
    expect(await pipeline.run("note")).toMatchObject(succeeded("note", "payments runs payments-api-1.0\n"));
    await pipeline.tick();
    expect(new Set(iam.asked.map(({ operation }) => `dynamodb:${operation}`))).toEqual(new Set(Action));
    expect(new Set(iam.asked.map((asked) => leadingKeyOf(asked, "name")))).toEqual(new Set(keys));
    expect(await valuesIn(table)).toEqual({
      api: ["40 hours", "30 hours", "20 hours", "10 hours", "payments-api-1.0"],
      website: ["payments-website-1.0"],
    });

    const stranger = await concourse.setPipeline("values", file, { team: "search" });
    expect(await stranger.run("note")).toMatchObject({
      error: expect.stringContaining("dynamodb:Query"),
      outputs: {},
    });
  });

  test("serial.yml: jobs that start at once put one after the other, and each version is announced in order", async () => {
    await using table = await createTable(engine, { name: "packages-table" });
    await using concourse = await concourseOf(table);
    const pipeline = await concourse.setPipeline("live", `${EXAMPLES}/serial.yml`);
    pipeline.push("source-code", { VERSION: "1.0\n" });
    await pipeline.run("maintain");
    expect(await pipeline.tick()).toMatchObject([succeeded("announce", "Live is maintenance\n")]);

    const builds = await Promise.all([pipeline.run("maintain"), pipeline.run("deploy")]);
    expect(builds.map(({ error }) => error)).toEqual([undefined, undefined]);
    const [first, second] = builds.toSorted((a, b) => a.began - b.began);
    expect(first!.ended).toBeLessThan(second!.began);
    const values = [first, second].map((build) => build?.outputs.live?.value);
    expect(new Set(values)).toEqual(new Set(["maintenance", "package-1.0"]));
    expect(await pipeline.tick()).toMatchObject(
      values.map((value) => succeeded("announce", `Live is ${value}\n`)),
    );
    const stored = (await table.items()).map(({ value, created }) => ({ value, created }));
    expect(stored.map(({ value }) => value)).toEqual(["maintenance", ...values] as string[]);
    expect(pipeline.versions("live")).toEqual(stored as Record<string, string>[]);
  });
});

test("each example is played", async () => {
  const played = Array.from(
    (await Bun.file(import.meta.path).text()).matchAll(/[\w-]+\.(?:yml|json)(?=`)/g),
    String,
  );
  expect((await readdir(EXAMPLES)).toSorted()).toEqual([...new Set(played)].toSorted());
});
