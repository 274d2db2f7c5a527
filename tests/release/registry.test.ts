import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import type { StartedTestContainer } from "testcontainers";
import manifest from "../../package.json";
import { writeLayout } from "../../.ci/layout.ts";
import { digestOf, moveTags, publish, tagsOf } from "../../.ci/release.ts";
import { hasDocker } from "../support/containers.ts";

// After the import of what sets the library up.
const { GenericContainer, Wait } = await import("testcontainers");

const ROOT = `${import.meta.dir}/../..`;
const VERSION = "org.opencontainers.image.version";
const canPublish = hasDocker && Bun.which("skopeo") != null;
const folder = await mkdtemp(`${tmpdir()}/release-`);
const images: string[] = [];
let registry: StartedTestContainer | undefined;
let host = "";

beforeAll(async () => {
  if (!canPublish) return;
  registry = await new GenericContainer("registry:2")
    .withExposedPorts(5000)
    .withWaitStrategy(Wait.forHttp("/v2/", 5000))
    .start();
  host = `127.0.0.1:${registry.getMappedPort(5000)}`;
});

afterAll(async () => {
  await registry?.stop();
  if (images.length > 0) await Bun.$`docker image rm ${images}`.quiet();
  await rm(folder, { recursive: true });
});

/** Makes an image of one small file for two platforms, which stands for one build, and gives its layout. */
async function build(content: string): Promise<string> {
  const root = await mkdtemp(`${folder}/build-`);
  const built: string[] = [];
  for (const architecture of ["amd64", "arm64"]) {
    await mkdir(`${root}/${architecture}`);
    await Bun.write(`${root}/${architecture}/content`, `${content} for ${architecture}`);
    const dockerfile = `FROM scratch\nCOPY content /\nLABEL ${VERSION}="${content}"\n`;
    await Bun.write(`${root}/${architecture}/Dockerfile`, dockerfile);
    const name = `dynamo-keyval-resource:test-${Bun.randomUUIDv7()}`;
    images.push(name);
    built.push(name);
    await GenericContainer.fromDockerfile(`${root}/${architecture}`)
      .withBuildkit()
      .withPlatform(`linux/${architecture}`)
      .build(name, { deleteOnExit: false });
  }
  await writeLayout(built, `${root}/layout`, 1);
  return `${root}/layout`;
}

/** What each tag of an image names, sorted by tag. */
async function published(image: string): Promise<Record<string, string>> {
  const tags = (await tagsOf(image)).toSorted();
  return Object.fromEntries(
    await Promise.all(tags.map(async (tag) => [tag, await digestOf(`${image}:${tag}`)])),
  );
}

/** A registry in front of the real one that refuses what it is told to refuse. */
function brokenRegistry(refuses: (method: string, path: string) => boolean) {
  return Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: async (request) => {
      const { pathname, search } = new URL(request.url);
      if (refuses(request.method, pathname)) return new Response("out of order", { status: 503 });
      const { method, headers } = request;
      const body = ["GET", "HEAD"].includes(method) ? null : await request.arrayBuffer();
      return fetch(`http://${host}${pathname}${search}`, { method, headers, body, redirect: "manual" });
    },
  });
}

describe.skipIf(!canPublish)("in a registry, with skopeo", () => {
  test("a first release has all tags, each in two forms of one build, for both platforms", async () => {
    const image = `${host}/first/resource`;
    expect(await tagsOf(image)).toEqual([]);
    const layout = await build("1.0.0");
    const [gzip, zstd] = await publish(image, "1.0.0", layout);
    expect(await published(image)).toEqual({ "1.0.0": gzip!, "1.0.0-zstd": zstd! });
    expect(await moveTags(image, "1.0.0")).toEqual([
      "1.0",
      "1.0-zstd",
      "1",
      "1-zstd",
      "latest",
      "latest-zstd",
    ]);
    expect(await published(image)).toEqual({
      "1": gzip!,
      "1-zstd": zstd!,
      "1.0": gzip!,
      "1.0-zstd": zstd!,
      "1.0.0": gzip!,
      "1.0.0-zstd": zstd!,
      latest: gzip!,
      "latest-zstd": zstd!,
    });
    for (const architecture of ["amd64", "arm64"]) {
      const reference = `docker://${image}:1.0.0`;
      const inspected =
        await Bun.$`skopeo inspect --tls-verify=false --override-arch ${architecture} ${reference}`.json();
      expect(inspected).toMatchObject({
        Architecture: architecture,
        Labels: { [VERSION]: "1.0.0" },
      });
    }
  });

  test("a run that broke half-way is run again: what is published stays, what is missing is added", async () => {
    const layout = await build("1.0.0");
    {
      using broken = brokenRegistry(
        (method, path) => method === "PUT" && path.endsWith("/manifests/1.0.0-zstd"),
      );
      const image = `127.0.0.1:${broken.port}/broken/resource`;
      expect(await publish(image, "1.0.0", layout).catch(String)).toMatch(/^Error: skopeo copy .* failed: /);
    }
    const image = `${host}/broken/resource`;
    const before = await published(image);
    expect(Object.keys(before)).toEqual(["1.0.0"]);
    // Another build, which must not replace the published one.
    const [gzip, zstd] = await publish(image, "1.0.0", await build("another 1.0.0"));
    expect(gzip).toBe(before["1.0.0"]);
    await moveTags(image, "1.0.0");
    const after = await published(image);
    expect(after).toMatchObject({ "1.0.0": gzip!, "1": gzip!, "1.0.0-zstd": zstd!, "1-zstd": zstd! });
    await publish(image, "1.0.0", layout);
    await moveTags(image, "1.0.0");
    expect(await published(image)).toEqual(after);
  });

  test("the workflow's commands publish the package's version and tell its digests", async () => {
    const { version } = manifest;
    const image = `${host}/commands/resource`;
    const layout = await build(version);
    const run = (command: string) =>
      Bun.$`bun ${ROOT}/.ci/release.ts ${command} --image ${image} --layout ${layout}`.text();
    const outputs = (await run("publish")).trimEnd().split("\n");
    expect(outputs).toEqual([
      `gzip=${await digestOf(`${image}:${version}`)}`,
      `zstd=${await digestOf(`${image}:${version}-zstd`)}`,
      "latest=true",
    ]);
    expect((await run("move-tags")).trimEnd().split("\n")).toContain(`${image}:latest-zstd`);
    const tagged = await Bun.$`bun ${ROOT}/.ci/release.ts digest --image ${image}:latest`.text();
    expect(`gzip=${tagged.trimEnd()}`).toBe(outputs[0]!);
  });

  test("a backport leaves the tags of newer versions alone", async () => {
    const image = `${host}/backport/resource`;
    for (const version of ["1.0.0", "1.1.0"]) {
      await publish(image, version, await build(version));
      await moveTags(image, version);
    }
    const before = await published(image);
    const [gzip, zstd] = await publish(image, "1.0.1", await build("1.0.1"));
    expect(await moveTags(image, "1.0.1")).toEqual(["1.0", "1.0-zstd"]);
    expect(await published(image)).toEqual({
      ...before,
      "1.0.1": gzip!,
      "1.0.1-zstd": zstd!,
      "1.0": gzip!,
      "1.0-zstd": zstd!,
    });
  });

  test('an error of the registry does not count as "not published"', async () => {
    using broken = brokenRegistry((_, path) => path.endsWith("/tags/list"));
    const image = `127.0.0.1:${broken.port}/error/resource`;
    const layout = await build("1.0.0");
    expect(await publish(image, "1.0.0", layout).catch(String)).toMatch(
      /^Error: skopeo list-tags .* failed: /,
    );
    expect(await moveTags(image, "1.0.0").catch(String)).toMatch(/^Error: skopeo list-tags .* failed: /);
    expect(await published(`${host}/error/resource`)).toEqual({});
  });
});
