import { afterAll, describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { createCA, createCert } from "mkcert";
import { engines } from "./support/engine.ts";
import { startProxy } from "./support/proxy.ts";
import { type Answer, answerOf, BINARIES, run } from "./support/step.ts";
import { createTable } from "./support/table.ts";

const folder = await mkdtemp(`${tmpdir()}/binaries-`);
afterAll(() => rm(folder, { recursive: true }));

const [engine] = engines;

const ca = await createCA({
  organization: "Tests",
  countryCode: "DE",
  state: "-",
  locality: "-",
  validity: 2,
});
const { cert, key } = await createCert({ ca, domains: ["127.0.0.1", "localhost"], validity: 2 });
const other = await createCA({
  organization: "Others",
  countryCode: "DE",
  state: "-",
  locality: "-",
  validity: 2,
});

const checkThere = async (fields: Record<string, unknown>, env = {}) => {
  await using table = await createTable(engine!);
  await using proxy = startProxy(engine!, () => undefined, { cert, key });
  const { status, stdout, stderr } = await run(
    "check",
    { source: { ...table.source, endpoint: proxy.endpoint, ...fields } },
    { env },
  );
  return { status, answer: stdout.trim(), stderr };
};

describe("the binaries", () => {
  test("are three files, none a link to another", async () => {
    const contents = await Promise.all(
      ["check", "in", "out"].map((step) => Bun.file(`${BINARIES}/${step}`).bytes()),
    );
    const hashes = contents.map((bytes) => Bun.hash(bytes));
    expect(new Set(hashes).size).toBe(3);
    for (const bytes of contents)
      expect(bytes.subarray(0, 4)).toEqual(new Uint8Array([0x7f, 0x45, 0x4c, 0x46]));
  });

  test("read nothing of the folder that they run in", async () => {
    await using table = await createTable(engine!);
    await using proxy = startProxy(engine!, () => undefined);
    const cwd = `${folder}/planted`;
    await mkdir(cwd);
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
    await using table = await createTable(engine!);
    // Who opens a FIFO that nobody writes to waits for ever.
    await Bun.$`mkfifo ${folder}/config`;
    const env = {
      HOME: folder,
      AWS_CONFIG_FILE: `${folder}/config`,
      AWS_SHARED_CREDENTIALS_FILE: `${folder}/config`,
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

  test("end quietly when nobody reads their answer", async () => {
    await using table = await createTable(engine!);
    await table.add({ created: "2026-01-01T00:00:00.000Z", value: "x".repeat(300_000) });
    const script = `{ "$0"; echo "status $?" >&2; } | true`;
    const process = Bun.spawn(["sh", "-c", script, `${BINARIES}/check`], {
      stdin: Buffer.from(JSON.stringify({ source: table.source })),
      stderr: "pipe",
    });
    const lines = (await process.stderr.text()).trimEnd().split("\n");
    expect(lines).toEqual([expect.stringContaining("EPIPE"), "status 1"]);
  });

  test.each(["check", "out", "in"] as const)(
    "%s in a terminal shows its usage and does not wait",
    async (step) => {
      const words = step === "check" ? [] : ["/tmp"];
      let screen = "";
      const { promise: closed, resolve: close } = Promise.withResolvers<void>();
      const process = Bun.spawn([`${BINARIES}/${step}`, ...words], {
        terminal: { data: (_, bytes) => (screen += Buffer.from(bytes).toString()), exit: () => close() },
      });
      await closed;
      expect(await process.exited).toBe(1);
      expect(screen).toContain(`usage: ${step}`);
    },
  );
});

describe("an endpoint with a certificate of a private authority", () => {
  test("is not trusted by default, and check says what to do", async () => {
    expect(await checkThere({})).toEqual({
      status: 1,
      answer: "",
      stderr: [
        expect.stringMatching(
          /^the certificate of 127\.0\.0\.1:\d+ is not trusted \(\w+\); give its CA in source\.ca_certs/,
        ),
      ],
    });
  });

  test("is trusted with ca_certs", async () => {
    expect(await checkThere({ ca_certs: [other.cert, ca.cert] })).toEqual({
      status: 0,
      answer: "[]",
      stderr: [],
    });
  });

  test("is trusted with the worker's certificates, with ca_certs besides", async () => {
    await writeFile(`${folder}/ca.pem`, ca.cert);
    const env = { SSL_CERT_FILE: `${folder}/ca.pem` };
    expect(await checkThere({}, env)).toEqual({ status: 0, answer: "[]", stderr: [] });
    expect(await checkThere({ ca_certs: [other.cert] }, env)).toEqual({
      status: 0,
      answer: "[]",
      stderr: [],
    });
  });
});
