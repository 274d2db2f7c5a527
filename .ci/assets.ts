/** Writes what a release has beside the image: `bun .ci/assets.ts [--folder dist/release] [--level 9]`. */
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { parseArgs, promisify } from "node:util";
import { gzip } from "node:zlib";
import manifest from "../package.json";
import { compile } from "./build.ts";
import { componentsOf } from "./sbom.ts";

const ROOT = `${import.meta.dir}/..`;

/** Writes the archives, the schemas, the SBOM and their checksums into a folder; gzip's level is 1 to 9. */
export async function writeAssets(folder: string, level = 9): Promise<void> {
  await mkdir(folder, { recursive: true });
  const work = await mkdtemp(`${tmpdir()}/assets-`);
  try {
    await Promise.all(
      ["linux-x64", "linux-arm64"].map(async (target) =>
        Bun.write(`${folder}/${manifest.name}-${target}.tar.gz`, await archive(work, target, level)),
      ),
    );
    await Bun.$`bun ${ROOT}/.ci/schemas.ts --folder ${work}/schemas`.quiet();
    for await (const name of new Bun.Glob("*.json").scan(`${work}/schemas`)) {
      await Bun.write(`${folder}/${manifest.name}.${name}`, Bun.file(`${work}/schemas/${name}`));
    }
  } finally {
    await rm(work, { recursive: true });
  }
  const lock = await Bun.file(`${ROOT}/bun.lock`).text();
  await Bun.write(
    `${folder}/${manifest.name}.cdx.json`,
    JSON.stringify(componentsOf(manifest, lock), null, 2),
  );
  const names = (await readdir(folder)).filter((name) => name.startsWith(manifest.name)).toSorted();
  const sums = await Bun.$`sha256sum ${names}`.cwd(folder).text();
  await Bun.write(`${folder}/SHA256SUMS`, sums);
}

/** The binaries and the licence in a folder of their own, bit for bit the same wherever they are packed. */
async function archive(work: string, target: string, level: number): Promise<Uint8Array> {
  const name = `${manifest.name}-${target}`;
  for (const step of ["check", "in", "out"]) {
    await compile(`${ROOT}/${step}/main.ts`, `${work}/${name}/${step}`, `bun-${target}`);
  }
  await Bun.write(`${work}/${name}/LICENSE`, Bun.file(`${ROOT}/LICENSE`));
  await Bun.$`chmod 755 ${name} ${name}/check ${name}/in ${name}/out && chmod 644 ${name}/LICENSE`.cwd(work);
  const same = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"];
  const tar = await Bun.$`tar -c --format=ustar ${same} ${name}`.cwd(work).quiet();
  return promisify(gzip)(tar.stdout, { level });
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: { folder: { type: "string", default: "dist/release" }, level: { type: "string", default: "9" } },
  });
  await writeAssets(values.folder, Number(values.level));
}
