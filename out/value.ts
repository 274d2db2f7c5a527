import { constants } from "node:fs";
import { lstat, open, readdir, realpath, stat as fileStat } from "node:fs/promises";
import { ITEM_BYTES, tooLarge } from "../shared/dynamodb.ts";
import { codeOf } from "../shared/errors.ts";
import type { OutRequest } from "../shared/schema.ts";

const DEFAULT_FILE = "version.txt";
const MOST_LISTED = 20;

/** A file beyond this size is refused unread. */
const MOST_READ_BYTES = 16 * 1024 * 1024;

/** The value that the params of a put name in the sources directory. Throws an Error in the user's words. */
export async function readValue({ file, directory }: OutRequest["params"], sources: string): Promise<string> {
  if (directory != null) return readFolder(sources, directory);
  const text = await readText("file", sources, file ?? (await findDefaultFile(sources)));
  return text.replace(/^\ufeff/, "").replace(/\r?\n$/, "");
}

/** The files of a folder as one JSON object, content by name and in the order of names, so that the same files are the same value. */
async function readFolder(sources: string, folder: string): Promise<string> {
  const path = await pathWithin("directory", sources, folder);
  const names = await readdir(path).catch((cause: unknown) => {
    throw refusal("directory", folder, `cannot be read as a folder: ${codeOf(cause)}`, cause);
  });
  if (names.length === 0) throw refusal("directory", folder, "has no file in it");
  const files = [];
  let bytes = 0;
  for (const name of names.toSorted()) {
    const content = await readText("directory", sources, `${folder}/${name}`);
    bytes += Buffer.byteLength(content);
    if (bytes > ITEM_BYTES)
      throw refusal(
        "directory",
        `${folder}/${name}`,
        `makes the item too large: it takes ${ITEM_BYTES} bytes`,
      );
    files.push([name, content]);
  }
  return JSON.stringify(Object.fromEntries(files));
}

function refusal(param: string, path: string, reason: string, cause?: unknown): Error {
  return new Error(`params.${param}: ${JSON.stringify(path)} ${reason}`, { cause });
}

/** Where a path of the sources directory really leads; refuses what is not in there. */
async function pathWithin(param: string, sources: string, path: string): Promise<string> {
  if (path.startsWith("/") || path.split("/").includes("..")) {
    throw refusal(
      param,
      path,
      "leads outside the sources directory; a path such as artifacts/version.txt is needed",
    );
  }
  // Bun's realpath takes a backslash for a slash, and would lead to another file.
  if (path.includes("\\"))
    throw refusal(param, path, "has a backslash in its name, which cannot be read here");
  try {
    const root = await realpath(sources);
    const real = await realpath(`${root}/${path}`);
    if (real === root || real.startsWith(root === "/" ? root : `${root}/`)) return real;
  } catch (error) {
    const code = codeOf(error);
    throw code === "ENOENT"
      ? refusal(param, path, `does not exist; ${await describeInputs(sources)}`, error)
      : refusal(param, path, `cannot be read: ${code}`, error);
  }
  throw refusal(param, path, "is a link that leads outside the sources directory");
}

/** The whole text of a file that really is in the sources directory. */
async function readText(param: string, sources: string, file: string): Promise<string> {
  const path = await pathWithin(param, sources, file);
  let bytes;
  try {
    await using handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stat = await handle.stat();
    if (stat.isDirectory()) throw refusal(param, file, "is a folder; name a file in it");
    if (!stat.isFile()) throw refusal(param, file, "is no regular file");
    const named = await fileStat(`${sources}/${file}`);
    if (stat.ino !== named.ino || stat.dev !== named.dev)
      throw refusal(param, file, "leads to another file than its name");
    if (stat.size > MOST_READ_BYTES) throw refusal(param, file, tooLarge(stat.size));
    bytes = await handle.readFile();
  } catch (error) {
    const code = codeOf(error);
    throw code === undefined ? error : refusal(param, file, `cannot be read: ${code}`, error);
  }
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw refusal(param, file, "is not UTF-8 text", cause);
  }
  if (text.includes("\0"))
    throw refusal(param, file, "has a NUL character in it, which Concourse cannot store");
  return text;
}

/** The one version.txt right in the sources directory or in a folder of it, which is what an input is. */
async function findDefaultFile(sources: string): Promise<string> {
  const names = await list(sources);
  const files = [];
  for (const candidate of [DEFAULT_FILE, ...names.map((name) => `${name}/${DEFAULT_FILE}`)]) {
    const stat = await lstat(`${sources}/${candidate}`).catch(() => undefined);
    if (stat !== undefined && !stat.isDirectory()) files.push(candidate);
  }
  const [file] = files;
  if (file !== undefined && files.length === 1) return file;
  const found =
    files.length > 1 ? `more than one is there (${shorten(files)})` : await describeInputs(sources);
  throw new Error(
    `params: none of file, value and directory is given, and no single ${DEFAULT_FILE} is in an input: ${found}`,
  );
}

async function list(sources: string): Promise<string[]> {
  try {
    return await readdir(sources);
  } catch (cause) {
    throw new Error(`the sources directory ${JSON.stringify(sources)} cannot be read: ${codeOf(cause)}`, {
      cause,
    });
  }
}

async function describeInputs(sources: string): Promise<string> {
  const names = await list(sources);
  return names.length === 0
    ? "the put step has no inputs; name them in its inputs, such as inputs: [artifacts]"
    : `the put step has these inputs: ${shorten(names)} (inputs: detect mounts only what params name)`;
}

function shorten(names: string[]): string {
  const shown = names
    .toSorted()
    .slice(0, MOST_LISTED)
    .map((name) => (/^[\w./-]+$/.test(name) ? name : JSON.stringify(name)));
  return names.length > MOST_LISTED
    ? `${shown.join(", ")} and ${names.length - MOST_LISTED} more`
    : shown.join(", ");
}
