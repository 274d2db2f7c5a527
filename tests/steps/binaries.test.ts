import { afterAll, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { startDynalite } from "../support/engine.ts";
import { startProxy } from "../support/proxy.ts";
import { type Answer, dist, type StepName } from "../support/step.ts";
import { describeSubjects } from "../support/subjects.ts";
import { createTable as createTestTable } from "../support/table.ts";

const folder = await mkdtemp(`${tmpdir()}/binaries-`);
afterAll(() => rm(folder, { recursive: true }));

test("the binaries are three files", async () => {
  const contents = await Promise.all(
    (["check", "in", "out"] as const).map(async (step) => {
      const { cmd } = await dist.command(step);
      return Bun.file(cmd[0]!).bytes();
    }),
  );
  expect(new Set(contents.map((bytes) => Bun.hash(bytes))).size).toBe(3);
});

test.each<[StepName, string[]]>([
  ["check", []],
  ["out", []],
  ["out", ["/tmp"]],
  ["in", []],
  ["in", ["/tmp"]],
])("%s in a terminal shows its usage and does not wait, with %j on its command line", async (step, words) => {
  let screen = "";
  const { promise: closed, resolve: close } = Promise.withResolvers<void>();
  const { cmd, ...options } = await dist.command(step, { words });
  const child = Bun.spawn(cmd, {
    ...options,
    terminal: { data: (_, bytes) => (screen += Buffer.from(bytes).toString()), exit: () => close() },
  });
  await closed;
  expect(await child.exited).toBe(1);
  expect(screen).toContain(`usage: ./${step}`);
});

test("a check ends when nobody reads its answer", async () => {
  await using table = await createTestTable(await startDynalite());
  await table.add({ created: "2026-01-01T00:00:00.000Z", value: "x".repeat(300_000) });
  const { cmd, ...options } = await dist.command("check");
  const child = Bun.spawn(["sh", "-c", `{ "$0" "$@"; echo "status $?" >&2; } | true`, ...cmd], {
    ...options,
    stdin: Buffer.from(JSON.stringify({ source: table.source })),
    stderr: "pipe",
  });
  const lines = (await child.stderr.text()).trimEnd().split("\n");
  expect(lines).toEqual([expect.stringContaining("EPIPE"), "status 1"]);
});

describeSubjects("the binaries", ({ createTable, answerOf }) => {
  test("read nothing of the folder that they run in", async () => {
    await using table = await createTable();
    await using proxy = startProxy(table.source.endpoint, () => undefined);
    const cwd = await mkdtemp(`${folder}/planted-`);
    const planted = {
      ".env": "AWS_REGION=eu-west-1\nAWS_ENDPOINT_URL=http://127.0.0.1:1\nHTTP_PROXY=http://127.0.0.1:1\n",
      "bunfig.toml": 'preload = ["./preload.ts"]\n[run]\npreload = ["./preload.ts"]\n',
      "preload.ts": `await Bun.write("${cwd}/preloaded", ""); console.log("preloaded"); process.exit(3);`,
      "package.json": '{"type": "commonjs", "imports": {"#x": "./preload.ts"}, "main": "./preload.ts"}',
      "tsconfig.json": '{"extends": "./nothing.json", "compilerOptions": {"paths": {"*": ["./preload.ts"]}}}',
    };
    await Promise.all(Object.entries(planted).map(([name, text]) => writeFile(`${cwd}/${name}`, text)));
    const { region: _, ...others } = table.source;
    const source = { ...others, endpoint: proxy.endpoint };
    const request = { source, params: { value: "1" } };
    const { version, metadata } = await answerOf<Answer>("out", request, { words: ["."], cwd });
    expect(metadata).toContainEqual({ name: "region", value: "us-east-1" });
    expect(await answerOf<unknown>("check", { source }, { cwd })).toEqual([version]);
    await answerOf("in", { source, version }, { words: ["got"], cwd });
    expect(await Bun.file(`${cwd}/got/version.txt`).text()).toBe("1\n");
    expect(await Bun.file(`${cwd}/preloaded`).exists()).toBeFalse();
    expect(proxy.asked[0]?.authorization).toContain("/us-east-1/dynamodb/");
  });

  test("with keys given, open no AWS configuration file and mind no other AWS setting", async () => {
    await using table = await createTable();
    // Who opens a FIFO that nobody writes to waits for ever.
    const home = await mkdtemp(`${folder}/home-`);
    await Bun.$`mkfifo ${home}/config`;
    const env = {
      HOME: home,
      AWS_CONFIG_FILE: `${home}/config`,
      AWS_SHARED_CREDENTIALS_FILE: `${home}/config`,
      AWS_PROFILE: "none",
      AWS_ENDPOINT_URL: "http://127.0.0.1:1",
      AWS_ENDPOINT_URL_DYNAMODB: "http://127.0.0.1:1",
      AWS_MAX_ATTEMPTS: "0",
      AWS_RETRY_MODE: "none",
      AWS_USE_FIPS_ENDPOINT: "true",
    };
    const request = { source: table.source, params: { value: "1" } };
    const { version } = await answerOf<Answer>("out", request, { words: ["/tmp"], env });
    expect(await answerOf<unknown>("check", { source: table.source }, { env })).toEqual([version]);
  });
});
