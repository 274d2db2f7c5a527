/** What a release decides, and what it does in the registry: `bun .ci/release.ts COMMAND`, as publish.yml calls it. */
import { parseArgs } from "node:util";
import manifest from "../package.json";

const ROOT = `${import.meta.dir}/..`;

/** The forms of the image, by the suffix of their tags, and the names that the layout has for them. */
const FORMS = { "": "gzip", "-zstd": "zstd" };

/** The version that a git tag releases; throws unless it is the package's. */
export function versionOf(tag: string, packageVersion: string): string {
  const [, version] = /^v(\d+\.\d+\.\d+)$/.exec(tag) ?? [];
  if (!version) throw new Error(`the tag ${tag} is not a version (example: v1.2.3)`);
  if (version !== packageVersion) {
    throw new Error(`the tag is ${tag}, but the version in package.json is ${packageVersion}`);
  }
  return version;
}

/** The image that a GitHub repository publishes; registries refuse capitals in names. */
export function imageOf(repository: string): string {
  return `ghcr.io/${repository.toLowerCase()}`;
}

/** The section of a changelog about a version, without its heading. */
export function notesOf(changelog: string, version: string): string {
  const section = changelog
    .split(/^## /m)
    .slice(1)
    .find((part) => part.startsWith(version) && /^\s/.test(part.slice(version.length)));
  const [heading = "", ...lines] = section?.split("\n") ?? [];
  const notes = lines.join("\n").trim();
  if (!notes) throw new Error(`CHANGELOG.md has nothing about ${version}`);
  if (heading.includes("unreleased")) {
    throw new Error(`CHANGELOG.md calls ${version} unreleased; replace that by the date`);
  }
  return notes;
}

/** The tags that a version takes over: those for which no newer version is among the image's tags. */
export function floatingTags(version: string, tags: string[]): string[] {
  const published = tags.filter((tag) => /^\d+\.\d+\.\d+$/.test(tag));
  const [major = "", minor = ""] = version.split(".");
  const isNewest = (prefix: string) =>
    published.every((other) => !other.startsWith(prefix) || Bun.semver.order(other, version) <= 0);
  const prefixes = [
    [`${major}.${minor}`, `${major}.${minor}.`],
    [major, `${major}.`],
    ["latest", ""],
  ] as const;
  return prefixes.filter(([, prefix]) => isNewest(prefix)).map(([tag]) => tag);
}

/** The tags of an image; none when the registry says that it has no such image. */
export async function tagsOf(image: string): Promise<string[]> {
  try {
    const answer = await skopeo("list-tags", ...tlsOf(image), `docker://${image}`);
    return JSON.parse(answer.toString()).Tags ?? [];
  } catch (error) {
    // The code NAME_UNKNOWN in a 404, of which older versions of skopeo show the status alone.
    if (/name unknown|registry 404 \(Not Found\)/.test(String(error))) return [];
    throw error;
  }
}

/** The digest of what a tag names in a registry, for all platforms together. */
export async function digestOf(reference: string): Promise<string> {
  const raw = await skopeo("inspect", "--raw", ...tlsOf(reference), `docker://${reference}`);
  return `sha256:${new Bun.CryptoHasher("sha256").update(raw).digest("hex")}`;
}

/** Pushes both forms of a version from a layout, except what is published already, and gives their digests. */
export async function publish(image: string, version: string, layout: string): Promise<string[]> {
  const tags = await tagsOf(image);
  const digests: string[] = [];
  for (const [suffix, form] of Object.entries(FORMS)) {
    const tag = `${version}${suffix}`;
    // A new digest would make every resource of the type start a new history.
    if (tags.includes(tag)) console.error(`${image}:${tag} is published already`);
    else await copy(image, `oci:${layout}:${form}`, tag);
    digests.push(await digestOf(`${image}:${tag}`));
  }
  return digests;
}

/** Moves the floating tags, of both forms, that a published version takes over, and gives them. */
export async function moveTags(image: string, version: string): Promise<string[]> {
  const floating = floatingTags(version, await tagsOf(image));
  const moved: string[] = [];
  for (const tag of floating) {
    for (const suffix of Object.keys(FORMS)) {
      await copy(image, `docker://${image}:${version}${suffix}`, `${tag}${suffix}`);
      moved.push(`${tag}${suffix}`);
    }
  }
  return moved;
}

async function copy(image: string, from: string, tag: string): Promise<void> {
  const plain = isLoopback(image) ? ["--src-tls-verify=false", "--dest-tls-verify=false"] : [];
  await skopeo("copy", "--all", "--preserve-digests", ...plain, from, `docker://${image}:${tag}`);
}

async function skopeo(...words: string[]): Promise<Buffer> {
  const { exitCode, stdout, stderr } = await Bun.$`skopeo ${words}`.nothrow().quiet();
  if (exitCode !== 0) throw new Error(`skopeo ${words.join(" ")} failed: ${stderr.toString().trim()}`);
  return stdout;
}

function isLoopback(image: string): boolean {
  return /^(localhost|127\.\d+\.\d+\.\d+)[:/]/.test(image);
}

function tlsOf(image: string): string[] {
  // As with Docker, registries on the loopback interface have no certificate.
  return isLoopback(image) ? ["--tls-verify=false"] : [];
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      tag: { type: "string", default: "" },
      repository: { type: "string", default: "" },
      image: { type: "string", default: "" },
      layout: { type: "string", default: "dist/image" },
    },
  });
  const { tag, repository, image, layout } = values;
  const { version } = manifest;
  const notes = async () => notesOf(await Bun.file(`${ROOT}/CHANGELOG.md`).text(), version);
  const commands: Record<string, () => Promise<string[]>> = {
    // Ends the workflow before the tests where the release would end it after them.
    plan: async () => {
      const lines = [`version=${versionOf(tag, version)}`, `image=${imageOf(repository)}`];
      await notes();
      return lines;
    },
    notes: async () => [await notes()],
    digest: async () => [await digestOf(image)],
    publish: async () => {
      const [gzip, zstd] = await publish(image, version, layout);
      const latest = floatingTags(version, await tagsOf(image)).includes("latest");
      return [`gzip=${gzip}`, `zstd=${zstd}`, `latest=${latest}`];
    },
    "move-tags": async () => (await moveTags(image, version)).map((moved) => `${image}:${moved}`),
  };
  const command = commands[positionals[0] ?? ""];
  try {
    if (!command) throw new Error(`expected one of: ${Object.keys(commands).join(", ")}`);
    for (const line of await command()) console.log(line);
  } catch (error) {
    console.error((error as Error).message);
    process.exitCode = 1;
  }
}
