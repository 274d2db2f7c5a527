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

  test("shared-version.yml gives each build of each app a version of its own", async () => {
    await using table = await createTable(engine, { name: "packages-table" });
    await using concourse = await concourseOf(table);
    const apps = ["api", "website", "worker"];
    const pipelines = await Promise.all(
      apps.map((app) => concourse.setPipeline(`build-${app}`, `${EXAMPLES}/shared-version.yml`, { app })),
    );
    const printed: Record<string, string[]> = { api: [], website: [], worker: [] };
    for (const round of ["1", "2"]) {
      for (const pipeline of pipelines) pipeline.push("source-code", { ROUND: round });
      const builds = await Promise.all(pipelines.map((pipeline) => pipeline.tick()));
      expect(builds.flat().map(({ error }) => error)).toEqual([undefined, undefined, undefined]);
      for (const [index, app] of apps.entries()) printed[app]!.push(builds[index]![0]!.printed);
    }
    const values = await valuesIn(table);
    expect(values["product/version"]).toEqual(["1.1.0", "1.2.0", "1.3.0", "1.4.0", "1.5.0", "1.6.0"]);
    expect(apps.flatMap((app) => values[app]!).toSorted()).toEqual(
      apps
        .flatMap((app) => printed[app]!.map((line) => line.replace(/Building (\S+) (\S+)\n/, "$1-$2")))
        .toSorted(),
    );
    const versions = apps.flatMap((app) => values[app]!.map((value) => value.replace(`${app}-`, "")));
    expect(versions.toSorted()).toEqual(values["product/version"]!);
  });

  test("build-first.yml stores a version only of a build that succeeded, and that nobody overtook", async () => {
    await using table = await createTable(engine, { name: "packages-table" });
    const rival = { ...table.source, key: "my-app/version" };
    let overtake = false;
    await using proxy = startProxy(table.source.endpoint, async ({ operation }) => {
      if (operation !== "PutItem" || !overtake) return undefined;
      overtake = false;
      await answerOf("out", { source: rival, params: { value: "1.2.0" } }, { words: ["/"] });
      return undefined;
    });
    await using concourse = await concourseOf(table, proxy.endpoint);
    const pipeline = await concourse.setPipeline("build", `${EXAMPLES}/build-first.yml`);
    const build = (script: string) => {
      pipeline.push("source-code", { "build.sh": script });
      return pipeline.tick();
    };
    expect(await build("exit 0")).toMatchObject([succeeded("build", "Building 1.1.0\n")]);
    expect(await build("exit 1")).toMatchObject([
      { error: expect.stringContaining("status 1"), printed: "Building 1.2.0\n" },
    ]);
    overtake = true;
    expect(await build("exit 0")).toMatchObject([
      { error: expect.stringContaining("1.2.0"), printed: "Building 1.2.0\n" },
    ]);
    expect(await pipeline.run("build")).toMatchObject(succeeded("build", "Building 1.3.0\n"));
    expect(await valuesIn(table)).toEqual({ "my-app/version": ["1.1.0", "1.2.0", "1.3.0"] });
  });

  test("guarded-promotion.yml records a promotion only if production is still what it was", async () => {
    await using table = await createTable(engine, { name: "packages-table" });
    const putIn = (key: string, value: string) =>
      answerOf("out", { source: { ...table.source, key }, params: { value } }, { words: ["/"] });
    let overtake = false;
    await using proxy = startProxy(table.source.endpoint, async ({ operation }) => {
      if (operation !== "PutItem" || !overtake) return undefined;
      overtake = false;
      await putIn("my-app/production", "package-0.9-hotfix");
      return undefined;
    });
    await using concourse = await concourseOf(table, proxy.endpoint);
    const pipeline = await concourse.setPipeline("promote", `${EXAMPLES}/guarded-promotion.yml`);
    await putIn("my-app/candidate", "package-1.0");
    const promoted = succeeded("promote", "From none to package-1.0\n");
    expect(await pipeline.run("promote")).toMatchObject(promoted);
    expect(await pipeline.run("promote")).toMatchObject(
      succeeded("promote", "From package-1.0 to package-1.0\n"),
    );
    await putIn("my-app/candidate", "package-1.1");
    overtake = true;
    expect(await pipeline.run("promote")).toMatchObject({
      error: expect.stringContaining("package-0.9-hotfix"),
      printed: "From package-1.0 to package-1.1\n",
    });
    expect((await valuesIn(table))["my-app/production"]).toEqual(["package-1.0", "package-0.9-hotfix"]);
  });

  test("latest.yml deploys the newest version without a check, and stores nothing", async () => {
    await using table = await createTable(engine, { name: "packages-table" });
    await using concourse = await concourseOf(table);
    const pipeline = await concourse.setPipeline("deploy", `${EXAMPLES}/latest.yml`);
    expect(await pipeline.run("deploy")).toMatchObject({ error: expect.any(String), printed: "" });
    for (const value of ["package-1.0", "package-1.1"]) {
      await answerOf("out", { source: table.source, params: { value } }, { words: ["/"] });
      expect(await pipeline.tick()).toEqual([]);
      expect(await pipeline.run("deploy")).toMatchObject(succeeded("deploy", `Artifact is ${value}\n`));
    }
    expect(await valuesIn(table)).toEqual({ "my-app": ["package-1.0", "package-1.1"] });
    expect(pipeline.versions("artifacts").map(({ value }) => value)).toEqual(["package-1.0", "package-1.1"]);
  });

  test("semver.yml goes from candidate to candidate to release, as with the semver resource", async () => {
    await using table = await createTable(engine, { name: "packages-table" });
    await using concourse = await concourseOf(table);
    const pipeline = await concourse.setPipeline("version", `${EXAMPLES}/semver.yml`);
    for (const [job, version] of [
      ["first-candidate", "1.5.0-rc.1"],
      ["next-candidate", "1.5.0-rc.2"],
      ["release", "1.5.0"],
      ["fix", "1.5.1"],
    ] as const) {
      expect(await pipeline.run(job)).toMatchObject(succeeded(job, `Building ${version}\n`));
    }
    expect(await pipeline.run("next-candidate")).toMatchObject({
      error: expect.stringContaining("1.5.1"),
      printed: "",
    });
    expect((await valuesIn(table))["my-app/version"]).toEqual(["1.5.0-rc.1", "1.5.0-rc.2", "1.5.0", "1.5.1"]);
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

test("each example is run", async () => {
  const run = Array.from(
    (await Bun.file(import.meta.path).text()).matchAll(/[\w-]+\.(?:yml|json)(?=`)/g),
    String,
  );
  expect((await readdir(EXAMPLES)).toSorted()).toEqual([...new Set(run)].toSorted());
});
