/**
 * Writes built images, one for each platform, as one OCI image layout that holds them in two forms, named `gzip` and
 * `zstd` by how their layers are compressed. The zstd streams have a window of 128 MiB, in which the three binaries
 * share the runtime that each of them has: `bun run layout [--folder dist/image] [--level 19] IMAGE...`. Each layer
 * takes a minute at level 19.
 */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { parseArgs, promisify } from "node:util";
import { megabytes, printTable } from "./markdown.ts";
import { constants, gunzip, gzip, zstdCompress } from "node:zlib";

/** How large an image is: in a registry as gzip, as zstd, and unpacked on a worker's disk, in bytes. */
export interface Size {
  image: string;
  gzip: number;
  zstd: number;
  disk: number;
}

interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
  platform?: { os: string; architecture: string };
  annotations?: Record<string, string>;
}

/** How the layers of an image are compressed. */
type Form = "gzip" | "zstd";

/** The window, of 2 to the power of this many bytes, that every decoder takes without being asked to. */
const WINDOW_LOG = 27;

const OCI = "application/vnd.oci.image";

/** Writes the layout into a folder and tells the images' sizes; needs `docker` and `tar`. */
export async function writeLayout(images: string[], folder: string, level = 19): Promise<Size[]> {
  await mkdir(`${folder}/blobs/sha256`, { recursive: true });
  const written: Written[] = [];
  for (const image of images) written.push(await writeImage(image, folder, level));
  const manifests: Descriptor[] = [];
  for (const form of ["gzip", "zstd"] as const) {
    const index = await writeBlob(folder, `${OCI}.index.v1+json`, {
      schemaVersion: 2,
      mediaType: `${OCI}.index.v1+json`,
      manifests: written.map((image) => image.manifests[form]),
    });
    manifests.push({ ...index, annotations: { "org.opencontainers.image.ref.name": form } });
  }
  await Bun.write(`${folder}/index.json`, JSON.stringify({ schemaVersion: 2, manifests }));
  await Bun.write(`${folder}/oci-layout`, JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  return written.map(({ size }) => size);
}

interface Written {
  manifests: Record<Form, Descriptor>;
  size: Size;
}

async function writeImage(image: string, folder: string, level: number): Promise<Written> {
  const saved = await mkdtemp(`${tmpdir()}/image-`);
  try {
    await Bun.$`docker image save ${image} | tar -x -C ${saved}`.quiet();
    const [{ Config, Layers }] = await Bun.file(`${saved}/manifest.json`).json();
    const config = await Bun.file(`${saved}/${Config}`).json();
    const size = { image, gzip: 0, zstd: 0, disk: 0 };
    const layers: Record<Form, Descriptor[]> = { gzip: [], zstd: [] };
    for (const [index, path] of (Layers as string[]).entries()) {
      const tar = await unpacked(await Bun.file(`${saved}/${path}`).bytes());
      if (digestOf(tar) !== config.rootfs.diff_ids[index])
        throw new Error(`${path} is not what ${Config} says`);
      const bytes = { gzip: await promisify(gzip)(tar), zstd: await compress(tar, level) };
      size.disk += tar.length;
      for (const form of ["gzip", "zstd"] as const) {
        layers[form].push(await writeBlob(folder, `${OCI}.layer.v1.tar+${form}`, bytes[form]));
        size[form] += bytes[form].length;
      }
    }
    const platform = { os: config.os, architecture: config.architecture };
    const configBlob = await writeBlob(folder, `${OCI}.config.v1+json`, config);
    const manifestOf = async (form: Form): Promise<Descriptor> => ({
      ...(await writeBlob(folder, `${OCI}.manifest.v1+json`, {
        schemaVersion: 2,
        mediaType: `${OCI}.manifest.v1+json`,
        config: configBlob,
        layers: layers[form],
      })),
      platform,
    });
    return { manifests: { gzip: await manifestOf("gzip"), zstd: await manifestOf("zstd") }, size };
  } finally {
    await rm(saved, { recursive: true });
  }
}

async function unpacked(layer: Uint8Array): Promise<Uint8Array> {
  return layer[0] === 0x1f && layer[1] === 0x8b ? promisify(gunzip)(layer) : layer;
}

/** Compresses into one zstd stream with a window of 128 MiB, which spans the binaries; a minute at level 19. */
export async function compress(tar: Uint8Array, level: number): Promise<Uint8Array> {
  const params = {
    [constants.ZSTD_c_compressionLevel]: level,
    [constants.ZSTD_c_windowLog]: WINDOW_LOG,
    [constants.ZSTD_c_enableLongDistanceMatching]: 1,
    [constants.ZSTD_c_checksumFlag]: 1,
  };
  return promisify(zstdCompress)(tar, { params });
}

async function writeBlob(folder: string, mediaType: string, content: object): Promise<Descriptor> {
  const bytes = content instanceof Uint8Array ? content : Buffer.from(JSON.stringify(content));
  const digest = digestOf(bytes);
  await Bun.write(`${folder}/blobs/${digest.replace(":", "/")}`, bytes);
  return { mediaType, digest, size: bytes.length };
}

function digestOf(bytes: Uint8Array): string {
  return `sha256:${new Bun.CryptoHasher("sha256").update(bytes).digest("hex")}`;
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { folder: { type: "string", default: "dist/image" }, level: { type: "string", default: "19" } },
  });
  const sizes = await writeLayout(positionals, values.folder, Number(values.level));
  printTable(
    sizes.map(({ image, gzip: gzipped, zstd, disk }) => ({
      image,
      "to pull, gzip": megabytes(gzipped),
      "to pull, zstd": megabytes(zstd),
      "on disk": megabytes(disk),
    })),
  );
}
