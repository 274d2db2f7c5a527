import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { cp, mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import manifest from "../../package.json";
import { writeAssets } from "../../.ci/assets.ts";
import { startDynalite } from "../support/engine.ts";
import { type Answer, dist, stepsOf, type StepName } from "../support/step.ts";
import { createTable } from "../support/table.ts";

const ROOT = `${import.meta.dir}/../..`;
const STEPS: StepName[] = ["check", "in", "out"];
const NAME = manifest.name;

const folder = await mkdtemp(`${tmpdir()}/assets-`);
const assets = `${folder}/assets`;
// A low level, for the time that it takes: the form is the same.
beforeAll(() => writeAssets(assets, 1));
afterAll(() => rm(folder, { recursive: true }));

/** The checksums of the binaries in a folder. */
async function checksumsOf(binaries: string): Promise<string[]> {
  return Promise.all(
    STEPS.map(async (step) =>
      new Bun.CryptoHasher("sha256").update(await Bun.file(`${binaries}/${step}`).bytes()).digest("hex"),
    ),
  );
}

test("a release has archives, schemas, an SBOM and their checksums, without the version in their names", async () => {
  const names = await readdir(assets);
  expect(names.toSorted()).toEqual(
    expect.arrayContaining([
      "SHA256SUMS",
      `${NAME}-linux-arm64.tar.gz`,
      `${NAME}-linux-x64.tar.gz`,
      `${NAME}.cdx.json`,
      `${NAME}.get.schema.json`,
      `${NAME}.put.schema.json`,
      `${NAME}.source.schema.json`,
    ]),
  );
  const sums = (await Bun.$`sha256sum --check SHA256SUMS`.cwd(assets).text()).trimEnd().split("\n");
  const others = names.filter((name) => name !== "SHA256SUMS").toSorted();
  expect(sums).toEqual(others.map((name) => `${name}: OK`));
});

test.each(["linux-x64", "linux-arm64"])(
  "the archive for %s has a folder with the licence",
  async (target) => {
    const listing = await Bun.$`tar -tvzf ${assets}/${NAME}-${target}.tar.gz --numeric-owner --utc`.text();
    const entries = listing
      .trimEnd()
      .split("\n")
      .map((line) => line.split(/\s+/));
    expect(entries.map(([mode, owner, , date, , name]) => [mode, owner, date, name])).toEqual([
      ["drwxr-xr-x", "0/0", "1970-01-01", `${NAME}-${target}/`],
      ["-rw-r--r--", "0/0", "1970-01-01", `${NAME}-${target}/LICENSE`],
      ...STEPS.map((step) => ["-rwxr-xr-x", "0/0", "1970-01-01", `${NAME}-${target}/${step}`]),
    ]);
  },
);

/** A checkout elsewhere, with what the image's build has: the packages that are needed to run. */
const checkout = `${folder}/another/place of a checkout`;

beforeAll(async () => {
  await mkdir(checkout, { recursive: true });
  for (const name of [".ci", "shared", ...STEPS, "package.json", "bun.lock", "bunfig.toml"]) {
    await cp(`${ROOT}/${name}`, `${checkout}/${name}`, { recursive: true });
  }
  await Bun.$`bun install --frozen-lockfile --production --ignore-scripts`.cwd(checkout).quiet();
});

test("the binaries are bit for bit the same, built in another folder", async () => {
  await Bun.$`bun .ci/build.ts --outdir ${folder}/built`.cwd(checkout).quiet();
  expect(await checksumsOf(`${folder}/built`)).toEqual(await checksumsOf(`${ROOT}/dist`));
});

test("the binaries in the archive for this machine are those in dist", async () => {
  const name = `${NAME}-linux-${process.arch}`;
  await Bun.$`tar -xzf ${assets}/${name}.tar.gz -C ${folder}`;
  expect(await checksumsOf(`${folder}/${name}`)).toEqual(await checksumsOf(`${ROOT}/dist`));
});

test("the SBOM lists what is installed to run, and Bun", async () => {
  const expected = new Set([`pkg:npm/${manifest.packageManager}`]);
  for await (const path of new Bun.Glob("**/node_modules/**/package.json").scan(checkout)) {
    const { name, version } = await Bun.file(`${checkout}/${path}`).json();
    if (version) expected.add(`pkg:npm/${name.replace("@", "%40")}@${version}`);
  }
  const { components } = await Bun.file(`${assets}/${NAME}.cdx.json`).json();
  expect(components.map(({ purl }: { purl: string }) => purl).toSorted()).toEqual([...expected].toSorted());
  expect(components.filter(({ hashes }: { hashes?: object[] }) => !hashes)).toMatchObject([{ name: "bun" }]);
});

// Debian's names for the emulator and for what it needs of the other platform.
const LIBRARIES = "/usr/aarch64-linux-gnu";
const emulator = process.arch === "arm64" ? [] : ["qemu-aarch64", "-L", LIBRARIES];
const canRun =
  process.arch === "arm64" ||
  (Bun.which("qemu-aarch64") && (await Bun.file(`${LIBRARIES}/lib/libc.so.6`).exists()));

describe.skipIf(!canRun)("the binaries for arm64", () => {
  test("take a value from one pipeline to another", async () => {
    await Bun.$`tar -xzf ${assets}/${NAME}-linux-arm64.tar.gz -C ${folder}`;
    const arm64 = stepsOf(async (step, { words = [] } = {}) => ({
      cmd: [...emulator, `${folder}/${NAME}-linux-arm64/${step}`, ...words],
    }));
    await using table = await createTable(await startDynalite());
    const { source } = table;
    const put = await arm64.answerOf<Answer>(
      "out",
      { source, params: { value: "1.2" } },
      { words: ["/tmp"] },
    );
    expect(await dist.answerOf<unknown>("check", { source, version: null })).toEqual([put.version]);
    expect(await arm64.answerOf<unknown>("check", { source, version: null })).toEqual([put.version]);
    await mkdir(`${folder}/get`);
    await arm64.answerOf<Answer>("in", { source, version: put.version }, { words: [`${folder}/get`] });
    expect(await Bun.file(`${folder}/get/version.txt`).text()).toBe("1.2\n");
  });
});
