import { afterAll, describe, expect, test } from "bun:test";
import { chmod, mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { startDynalite } from "../support/engine.ts";
import { startSts } from "../support/sts.ts";
import { createTable, type TestTable } from "../support/table.ts";

const ROOT = `${import.meta.dir}/../..`;
const ROLE = "arn:aws:iam::123456789012:role/ci";
const guide = await Bun.file(`${ROOT}/.github/docs/shell.md`).text();
const readme = await Bun.file(`${ROOT}/README.md`).text();
const engine = await startDynalite();
const root = await mkdtemp(`${tmpdir()}/shell-`);
afterAll(() => rm(root, { recursive: true }));

const hasTools = ["jq", "curl", "bash"].every((tool) => Bun.which(tool) !== null);

/** The code blocks in a language, by the heading that they stand under. */
function blocksOf(text: string, language: string): { heading: string; code: string }[] {
  return text.split(/^#+ /m).flatMap((section) => {
    const [heading = ""] = section.split("\n", 1);
    const blocks = section.matchAll(new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\`$`, "gm"));
    return Array.from(blocks, ([, code = ""]) => ({ heading, code }));
  });
}

/** The one block of the guide under a heading that has this text in it. */
function recipe(heading: string, part = ""): string {
  const found = blocksOf(guide, "sh").filter((one) => one.heading === heading && one.code.includes(part));
  expect(found).toHaveLength(1);
  return found[0]!.code;
}

/** A folder with the programs in it, and a shell that runs scripts there with AWS's environment variables. */
async function openShell({ source }: TestTable, shell: string, env: Record<string, string> = {}) {
  const folder = await mkdtemp(`${root}/`);
  await mkdir(`${folder}/.bin`);
  for (const step of ["check", "in", "out"]) await symlink(`${ROOT}/dist/${step}`, `${folder}/${step}`);
  const keys = { AWS_ACCESS_KEY_ID: source.access_key, AWS_SECRET_ACCESS_KEY: source.secret_key };
  const run = async (code: string, more: Record<string, string> = {}) => {
    await Bun.write(`${folder}/recipe.sh`, code);
    const child = Bun.spawn([shell, "-e", "recipe.sh"], {
      cwd: folder,
      env: {
        PATH: `${folder}/.bin:${process.env.PATH}`,
        AWS_REGION: "us-east-1",
        AWS_ENDPOINT_URL_DYNAMODB: source.endpoint,
        ...(env.AWS_ROLE_ARN ? {} : keys),
        ...env,
        ...more,
      },
      stdout: "pipe",
      stderr: "pipe",
    });
    const [stdout, stderr, status] = await Promise.all([
      child.stdout.text(),
      child.stderr.text(),
      child.exited,
    ]);
    return { status, stdout, stderr };
  };
  return { folder, run };
}

const ended = (stdout: string) => ({ status: 0, stdout, stderr: "" });
const put = (value: string) =>
  expect.stringContaining(`{"version":{"value":${JSON.stringify(value)},"created":"2`) as string;

describe.skipIf(!hasTools).each(["bash", "sh"])("under %s -e", (shell) => {
  test("the recipes of shell.md do what they say, one after the other in one folder", async () => {
    await using table = await createTable(engine, { name: "packages-table" });
    const { folder, run } = await openShell(table, shell);
    expect(await run(recipe("In a shell"))).toEqual(ended(""));

    const withDefault = recipe("The newest value in a variable", "case $status");
    expect(await run(withDefault)).toMatchObject({ status: 0, stdout: "package-0.0\n" });
    const newest = recipe("The newest value in a variable", "request.json)\necho");
    expect(await run(newest)).toMatchObject({ status: 3, stdout: "" });

    expect(await run(recipe("Set a value", "version.txt"))).toEqual(ended(put("package-1.2")));
    const setNew = recipe("Set a value", "build.txt");
    expect(await run(setNew)).toEqual(ended(put("package-1.3")));
    expect(await run(setNew)).toMatchObject({ status: 0, stdout: put("package-1.3") });
    expect(await run(newest)).toEqual(ended("package-1.3\n"));
    expect(await run(withDefault)).toEqual(ended("package-1.3\n"));
    const outage = { AWS_ENDPOINT_URL_DYNAMODB: "http://127.0.0.1:1" };
    expect(await run(withDefault, outage)).toMatchObject({ status: 1, stdout: "" });

    const unchanged = recipe("Fail if nothing has changed");
    expect(await run(unchanged)).toEqual(ended(""));
    const same = unchanged.replace("package-1.1", "package-1.3");
    expect(await run(same)).toEqual({ status: 1, stdout: "", stderr: "still package-1.3\n" });

    // While the recipe sleeps, somebody else puts.
    await Bun.write(
      `${folder}/.bin/sleep`,
      `#!/bin/sh -e\njq '.params = {value: "package-1.4"}' request.json | ./out . >/dev/null\n`,
    );
    await chmod(`${folder}/.bin/sleep`, 0o755);
    expect(await run(recipe("Wait for a new value"))).toEqual(ended("package-1.4\n"));

    const { stdout: list } = await run(recipe("List versions"));
    expect(list.replace(/^\S+  /gm, "")).toBe("package-1.2\npackage-1.3\npackage-1.4\n");
    const { status, stdout } = await run(recipe("Get the files of a version"));
    expect([status, stdout]).toEqual([0, expect.stringMatching(/\}\npackage-1\.4\n$/)]);
    expect(await run(recipe("Copy from one key to another"))).toEqual(ended(put("package-1.4")));

    const bump = recipe("Bump a version");
    const bumped = await Promise.all([1, 2, 3].map(() => openShell(table, shell)));
    const versions = await Promise.all(
      bumped.map(async (one) => {
        await one.run(recipe("In a shell"));
        return (await one.run(bump)).stdout;
      }),
    );
    expect(versions.toSorted()).toEqual(["0.1.0\n", "0.2.0\n", "0.3.0\n"]);
    expect((await table.items()).map(({ application, value }) => [application, value])).toEqual([
      ["my-app", "package-1.2"],
      ["my-app", "package-1.3"],
      ["my-app", "package-1.4"],
      ["my-app/production", "package-1.4"],
      ["my-app/version", "0.1.0"],
      ["my-app/version", "0.2.0"],
      ["my-app/version", "0.3.0"],
    ]);
  });

  test("README's block runs as it stands", async () => {
    await using table = await createTable(engine, { name: "packages-table" });
    const { run } = await openShell(table, shell);
    const [block, ...others] = blocksOf(readme, "sh").filter(
      ({ heading, code }) => heading === "In a shell" && !code.includes("OWNER"),
    );
    expect(others).toEqual([]);
    expect(await run(`${block!.code}echo "$version"\n`)).toEqual(
      ended(expect.stringMatching(/^\{"version":\{"value":"package-1\.2".*\}\npackage-1\.2\n$/) as string),
    );
  });
});

describe.skipIf(!hasTools)("with the token of a CI service", () => {
  /** Runs the script of a CI service in its environment, against a stand-in for STS. */
  async function runWithToken(script: string, variables: Record<string, string>) {
    await using table = await createTable(engine, { name: "packages-table" });
    await table.add({ created: new Date().toISOString(), value: "package-1.2" });
    using sts = startSts({});
    const asked: string[] = [];
    using tokens = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: (request) => {
        asked.push(`${request.headers.get("authorization")} ${new URL(request.url).search}`);
        return Response.json({ value: "header.payload.signature" });
      },
    });
    const { folder, run } = await openShell(table, "bash", {
      ...variables,
      AWS_ENDPOINT_URL_STS: sts.endpoint,
      ACTIONS_ID_TOKEN_REQUEST_TOKEN: "request-token",
      ACTIONS_ID_TOKEN_REQUEST_URL: `${tokens.url.origin}/token?job=1`,
      GITHUB_OUTPUT: "output.txt",
      TOKEN: "header.payload.signature",
    });
    await run(recipe("In a shell"));
    const outcome = await run(script);
    const written = Bun.file(`${folder}/output.txt`);
    return {
      ...outcome,
      asked,
      output: (await written.exists()) ? await written.text() : "",
      sts: sts.asked.map(({ parameters: { Action, RoleArn, WebIdentityToken } }) => ({
        Action,
        RoleArn,
        WebIdentityToken,
      })),
    };
  }

  const assumed = [
    { Action: "AssumeRoleWithWebIdentity", RoleArn: ROLE, WebIdentityToken: "header.payload.signature" },
  ];
  /** The workflow in the guide that has this text in it. */
  const workflow = (part: string): unknown => {
    const { code = "" } = blocksOf(guide, "yaml").find((block) => block.code.includes(part)) ?? {};
    return Bun.YAML.parse(code);
  };

  test("the workflow for GitHub Actions reads a value without a key", async () => {
    type Github = { env: Record<string, string>; steps: [{ run: string }] };
    const { env, steps } = workflow("GITHUB_OUTPUT") as Github;
    const outcome = await runWithToken(steps[0].run, env);
    expect(outcome).toEqual({
      ...ended(""),
      asked: ["bearer request-token ?job=1&audience=sts.amazonaws.com"],
      output: "version=package-1.2\n",
      sts: assumed,
    });
  });

  test("the job for GitLab CI reads a value without a key", async () => {
    type Gitlab = { deploy: { variables: Record<string, string>; script: string[] } };
    const { deploy } = workflow("id_tokens") as Gitlab;
    const outcome = await runWithToken(deploy.script.join("\n"), deploy.variables);
    expect(outcome).toMatchObject({ ...ended("package-1.2\n"), sts: assumed });
  });
});
