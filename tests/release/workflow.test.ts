import { afterAll, expect, test } from "bun:test";
import { chmod, cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import manifest from "../../package.json";

const ROOT = `${import.meta.dir}/../..`;
const WORKFLOWS = `${ROOT}/.github/workflows`;

interface Job {
  needs?: string | string[];
  permissions?: Record<string, string>;
  steps?: { name?: string; run?: string; uses?: string }[];
}

const publish = Bun.YAML.parse(await Bun.file(`${WORKFLOWS}/publish.yml`).text()) as {
  permissions: Record<string, string>;
  concurrency: object;
  defaults: object;
  jobs: Record<"plan" | "test" | "publish", Job>;
};

const folder = await mkdtemp(`${tmpdir()}/workflow-`);
afterAll(() => rm(folder, { recursive: true }));

/** Runs a command of the release program. */
async function release(...words: string[]): Promise<{ status: number; stdout: string; stderr: string }> {
  const { exitCode, stdout, stderr } = await Bun.$`bun ${ROOT}/.ci/release.ts ${words}`.nothrow().quiet();
  return { status: exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
}

test("every action is pinned to a commit, with its version beside it", async () => {
  for (const name of ["publish.yml", "test.yml"]) {
    const text = await Bun.file(`${WORKFLOWS}/${name}`).text();
    const actions = Array.from(text.matchAll(/uses: (?!\.\/)(.+)/g), ([, action]) => action);
    expect(actions.length).toBeGreaterThan(0);
    for (const action of actions) expect(action).toMatch(/^[\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
  }
});

test("nothing but the job that publishes may write, and it waits for the tests", () => {
  const { plan, test: tests, publish: job } = publish.jobs;
  expect(publish.permissions).toEqual({ contents: "read" });
  expect([plan.permissions, tests.permissions]).toEqual([undefined, undefined]);
  expect(tests.needs).toBe("plan");
  expect(job.needs).toEqual(["plan", "test"]);
});

test("one release runs at a time, in a shell that sees a failure within a pipe", () => {
  expect(publish.concurrency).toEqual({ group: "publish", "cancel-in-progress": false });
  expect(publish.defaults).toEqual({ run: { shell: "bash" } });
});

test("the floating tags move last", () => {
  expect(publish.jobs.publish.steps?.at(-1)?.run).toBe('bun .ci/release.ts move-tags --image "$IMAGE"');
});

test("the workflow calls the release program's commands, and no others", async () => {
  const { stderr } = await release("none");
  const [, commands = ""] = /^expected one of: (.*)\n$/.exec(stderr) ?? [];
  const steps = Object.values(publish.jobs).flatMap((job) => job.steps ?? []);
  const called = steps.flatMap(({ run = "" }) =>
    Array.from(run.matchAll(/bun \.ci\/release\.ts ([\w-]+)/g), ([, command]) => command!),
  );
  expect(called.toSorted()).toEqual(commands.split(", ").toSorted());
});

test("a tag that is not the package's version ends the workflow before the tests", async () => {
  expect(await release("plan", "--tag", "v0.0.9", "--repository", "Owner/resource")).toEqual({
    status: 1,
    stdout: "",
    stderr: expect.stringMatching(/^the tag is v0\.0\.9, but the version in package\.json is \S+\n$/),
  });
});

const TAG = `v${manifest.version}`;
const view = `release view ${TAG} --json isDraft --jq .isDraft`;
const create = `release create ${TAG} --draft --verify-tag --title ${manifest.version} --notes-file release-notes`;
const upload = `release upload ${TAG} --clobber dist/release/SHA256SUMS`;
const show = `release edit ${TAG} --draft=false --latest=false`;

test.each<[string, string, number, string[]]>([
  ["is not there", "echo release not found >&2; exit 1", 0, [view, create, upload, show]],
  ["is a draft of a run that broke", "echo true", 0, [view, upload, show]],
  ["is there", "echo false", 0, [view]],
  ["cannot be seen", "echo HTTP 502: Bad Gateway >&2; exit 1", 1, [view]],
])(
  "where the release of the assets %s, the workflow does what is left to do",
  async (_, answer, status, calls) => {
    const checkout = await mkdtemp(`${folder}/checkout-`);
    for (const name of [".ci", "package.json"])
      await cp(`${ROOT}/${name}`, `${checkout}/${name}`, { recursive: true });
    await Bun.write(`${checkout}/CHANGELOG.md`, `## ${manifest.version} (2026-12-01)\n\n- Notes.\n`);
    await Bun.write(`${checkout}/dist/release/SHA256SUMS`, "");
    // In place of GitHub's client: notes what it is called with, and answers where something is asked.
    const client = `#!/bin/sh\necho "$*" >>calls\nif [ "$2" = view ]; then ${answer}; fi\n`;
    await Bun.write(`${checkout}/bin/gh`, client);
    await chmod(`${checkout}/bin/gh`, 0o755);
    const { run = "" } = publish.jobs.publish.steps?.find(({ name }) => name === "Release the assets") ?? {};
    const env = {
      PATH: `${checkout}/bin:${process.env.PATH}`,
      GITHUB_REF_NAME: TAG,
      VERSION: manifest.version,
    };
    const child = Bun.spawn(["bash", "-eo", "pipefail", "-c", run], {
      cwd: checkout,
      env: { ...env, LATEST: "false" },
      stdout: "ignore",
      stderr: "pipe",
    });
    const stderr = await child.stderr.text();
    expect(stderr).toBe(status === 0 ? "" : "HTTP 502: Bad Gateway\n");
    expect(await child.exited).toBe(status);
    expect((await Bun.file(`${checkout}/calls`).text()).trimEnd().split("\n")).toEqual(calls);
    if (calls.includes(create)) expect(await Bun.file(`${checkout}/release-notes`).text()).toBe("- Notes.\n");
  },
);
