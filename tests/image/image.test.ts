import { afterAll, describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { promisify } from "node:util";
import { constants, gunzip, zstdDecompress } from "node:zlib";
import manifest from "../../package.json";
import { createAuthority } from "../support/authority.ts";
import { buildImage, hasDocker } from "../support/containers.ts";
import { startDynalite } from "../support/engine.ts";
import { writeLayout } from "../../.ci/layout.ts";
import { startProxy } from "../support/proxy.ts";
import { type Answer, type Outcome, type StepName, stepsOf } from "../support/step.ts";
import { createTable, type TestTable } from "../support/table.ts";

const folder = await mkdtemp(`${tmpdir()}/image-`);
afterAll(() => rm(folder, { recursive: true }));

const engine = await startDynalite();

/** Runs each step in a container of its own, as Concourse does, with these options of `docker run` besides. */
const inContainers = (...options: string[]) =>
  stepsOf(async (step: StepName, { words = [], env = {} } = {}) => {
    const settings = Object.entries(env).flatMap(([name, value]) => ["--env", `${name}=${value}`]);
    const image = await buildImage();
    const run = ["docker", "run", "--rm", "--interactive", "--network", "host", "--workdir", "/"];
    return { cmd: [...run, ...options, ...settings, image, `/opt/resource/${step}`, ...words] };
  });

describe.skipIf(!hasDocker)("the image", () => {
  test("runs as root by name, leaves the base's environment, and says what it is", async () => {
    const [{ Config }] = await Bun.$`docker image inspect ${await buildImage()}`.json();
    expect(Config).toMatchObject({
      User: "root",
      Env: expect.arrayContaining(["SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"]),
      Labels: {
        "org.opencontainers.image.title": manifest.name,
        "org.opencontainers.image.description": manifest.description,
        "org.opencontainers.image.licenses": manifest.license,
        "org.opencontainers.image.version": expect.any(String),
        "org.opencontainers.image.source": expect.any(String),
        "org.opencontainers.image.url": expect.any(String),
        "org.opencontainers.image.revision": expect.any(String),
        "org.opencontainers.image.created": expect.any(String),
      },
    });
    expect(Config.Entrypoint ?? Config.Cmd ?? null).toBeNull();
  });

  test("holds three separate executables and no shell over its base", async () => {
    const id = (await Bun.$`docker create ${await buildImage()} none`.text()).trim();
    const listing = (await Bun.$`docker export ${id} | tar -tv`.text()).split("\n");
    await Bun.$`docker rm ${id}`.quiet();
    const resources = listing.filter((line) => line.includes(" opt/resource/"));
    expect(resources).toEqual([
      expect.stringMatching(/^drwxr-xr-x .* opt\/resource\/$/),
      ...["check", "in", "out"].map((step): string =>
        expect.stringMatching(new RegExp(`^-rwxr-xr-x .* opt/resource/${step}$`)),
      ),
    ]);
    expect(listing.filter((line) => /bin\/(ba|da)?sh$|bin\/(apt|dpkg|apk)/.test(line))).toEqual([]);
  });

  test("has the binaries that are built outside of it, bit for bit", async () => {
    const id = (await Bun.$`docker create ${await buildImage()} none`.text()).trim();
    const binaries = `${folder}/binaries`;
    await Bun.$`docker cp ${id}:/opt/resource ${binaries} && docker rm ${id}`.quiet();
    for (const step of ["check", "in", "out"]) {
      await Bun.$`cmp ${binaries}/${step} ${import.meta.dir}/../../dist/${step}`.quiet();
    }
  });

  test("is built by the Bun that the project is pinned to", async () => {
    const dockerfile = await Bun.file(`${import.meta.dir}/../../Dockerfile`).text();
    expect(dockerfile).toContain(` oven/bun:${manifest.packageManager.split("@")[1]} AS build\n`);
  });

  test("takes a value from one pipeline to another", async () => {
    await using table = await createTable(engine);
    const { source } = table;
    await mkdir(`${folder}/put/artifacts`, { recursive: true });
    await writeFile(`${folder}/put/artifacts/version.txt`, "package-1.2\n");
    const env = {
      http_proxy: "http://127.0.0.1:1",
      https_proxy: "http://127.0.0.1:1",
      no_proxy: "127.0.0.1",
    };
    const out = inContainers("--volume", `${folder}/put/artifacts:/tmp/build/put/artifacts`);
    const { version } = await out.answerOf<Answer>("out", { source }, { words: ["/tmp/build/put"], env });
    expect(await table.items()).toMatchObject([{ ...version, value: "package-1.2" }]);
    const check = inContainers("--read-only");
    expect(await check.answerOf<unknown>("check", { source, version: null }, { env })).toEqual([version]);
    const get = inContainers("--volume", `${folder}/get:/tmp/build/get`);
    await get.answerOf<Answer>("in", { source, version }, { words: ["/tmp/build/get"] });
    expect(await Bun.file(`${folder}/get/version.txt`).text()).toBe("package-1.2\n");
    expect(await Bun.file(`${folder}/get/version.json`).json()).toEqual(version);
  });

  test("ends at once on a signal, though it is the first process of its container", async () => {
    const { promise: asked, resolve: ask } = Promise.withResolvers<void>();
    using silent = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      idleTimeout: 0,
      fetch: () => (ask(), new Promise<Response>(() => {})),
    });
    const { cmd } = await inContainers().command("check");
    const source = { table_name: "packages-table", partition_key: "application", key: "my-app" };
    const keys = { access_key: "AKIAtest", secret_key: "secret-of-the-tests", endpoint: silent.url.origin };
    const stdin = Buffer.from(JSON.stringify({ source: { ...source, ...keys } }));
    const child = Bun.spawn(cmd, { stdin, stdout: "pipe", stderr: "pipe" });
    await asked;
    child.kill("SIGTERM");
    expect(await child.exited).toBe(143);
    expect(await child.stdout.text()).toBe("");
  });
});

const ca = await createAuthority("Tests");
const other = await createAuthority("Others");
const certificate = await ca.certify();

async function checkOverTls(table: TestTable, options: string[], fields = {}): Promise<Outcome> {
  await using proxy = startProxy(table.source.endpoint, () => undefined, certificate);
  const source = { ...table.source, endpoint: proxy.endpoint, ...fields };
  return await inContainers("--read-only", ...options).run("check", { source });
}

describe.skipIf(!hasDocker)("in the image, an endpoint with a certificate of a private authority", () => {
  test.each<[string, Record<string, string>]>([
    ["a Debian bundle alone", { "ca-certificates.crt": other.cert + ca.cert }],
    ["a RHEL bundle, with the authority second in it", { "ca-bundle.crt": other.cert + ca.cert }],
    ["single files", { "other.pem": other.cert, "tests.pem": ca.cert }],
  ])("is trusted by way of a worker's certificates: %s", async (_, files) => {
    await using table = await createTable(engine);
    const certificates = await mkdtemp(`${folder}/certs-`);
    await Promise.all(
      Object.entries(files).map(([name, text]) => writeFile(`${certificates}/${name}`, text)),
    );
    const outcome = await checkOverTls(table, ["--volume", `${certificates}:/etc/ssl/certs:ro`]);
    expect(outcome).toEqual({ status: 0, stdout: "[]\n", stderr: [] });
  });

  test("is trusted by way of ca_certs", async () => {
    await using table = await createTable(engine);
    const outcome = await checkOverTls(table, [], { ca_certs: [ca.cert] });
    expect(outcome).toEqual({ status: 0, stdout: "[]\n", stderr: [] });
  });

  test("is not trusted otherwise, and check says why and what to set", async () => {
    await using table = await createTable(engine);
    expect(await checkOverTls(table, [])).toEqual({
      status: 1,
      stdout: "",
      stderr: [
        expect.stringMatching(
          /^the certificate of \S+ is not trusted \(\w+\): add its CA to source\.ca_certs/,
        ),
      ],
    });
  });
});

describe.skipIf(!hasDocker)("the layout of the image for registries", () => {
  test("has one build in two forms, of OCI's types throughout, and every decoder takes their layers", async () => {
    const layout = `${folder}/layout`;
    // A low level, for the time that it takes: the form is the same.
    const [size] = await writeLayout([await buildImage()], layout, 1);
    const read = async (descriptor: { digest: string; size: number }) => {
      const bytes = await Bun.file(`${layout}/blobs/${descriptor.digest.replace(":", "/")}`).bytes();
      expect(`sha256:${new Bun.CryptoHasher("sha256").update(bytes).digest("hex")}`).toBe(descriptor.digest);
      expect(bytes.length).toBe(descriptor.size);
      return bytes;
    };
    const readJson = async (descriptor: { digest: string; size: number }) =>
      JSON.parse(Buffer.from(await read(descriptor)).toString());
    const unpack = {
      gzip: promisify(gunzip),
      zstd: (layer: Uint8Array) =>
        promisify(zstdDecompress)(layer, { params: { [constants.ZSTD_d_windowLogMax]: 27 } }),
    };
    const { manifests } = await Bun.file(`${layout}/index.json`).json();
    const forms = ["gzip", "zstd"] as const;
    expect(manifests).toMatchObject(
      forms.map((form) => ({
        mediaType: "application/vnd.oci.image.index.v1+json",
        annotations: { "org.opencontainers.image.ref.name": form },
      })),
    );
    const configs = new Set<string>();
    for (const [position, form] of forms.entries()) {
      const index = await readJson(manifests[position]);
      expect(index.manifests).toMatchObject([
        {
          mediaType: "application/vnd.oci.image.manifest.v1+json",
          platform: { os: "linux", architecture: expect.any(String) },
        },
      ]);
      const { config, layers } = await readJson(index.manifests[0]);
      configs.add(config.digest);
      expect(config.mediaType).toBe("application/vnd.oci.image.config.v1+json");
      const { rootfs } = await readJson(config);
      const packed: number[] = [];
      const digests: string[] = [];
      let disk = 0;
      for (const layer of layers) {
        expect(layer.mediaType).toBe(`application/vnd.oci.image.layer.v1.tar+${form}`);
        const tar = await unpack[form](await read(layer));
        digests.push(`sha256:${new Bun.CryptoHasher("sha256").update(tar).digest("hex")}`);
        packed.push(layer.size);
        disk += tar.length;
      }
      expect(digests).toEqual(rootfs.diff_ids);
      expect(size).toMatchObject({ disk, [form]: packed.reduce((sum, bytes) => sum + bytes, 0) });
    }
    expect(configs.size).toBe(1);
    expect(size!.zstd).toBeLessThan(size!.gzip / 2);
  });
});
