import { constants } from "node:fs";
import { lstat, open, readdir, readlink, realpath } from "node:fs/promises";
import { ITEM_BYTES, tooLarge } from "../shared/dynamodb.ts";
import { codeOf } from "../shared/errors.ts";
import type { OutRequest } from "../shared/schema.ts";

const DEFAULT_FILE = "version.txt";
const MOST_LISTED = 20;
const LINK_OUTSIDE = "is a symbolic link that leads outside the sources directory";

const NO_INPUTS = "the put step has no inputs";
const ADD_INPUTS = "add them (example: inputs: [artifacts])";

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
    throw refusal("directory", folder, `cannot be read as a directory: ${codeOf(cause)}`, cause);
  });
  if (names.length === 0) throw refusal("directory", folder, "contains no files");
  const files = [];
  // Reading thousands of files takes seconds, and their names alone may be too much.
  let bytes = Buffer.byteLength(JSON.stringify(Object.fromEntries(names.map((name) => [name, ""]))));
  if (bytes > ITEM_BYTES)
    throw refusal(
      "directory",
      folder,
      `has ${names.length} files in it: with them the item ${tooLarge(bytes)}`,
    );
  for (const name of names.toSorted()) {
    const content = await readText("directory", sources, `${folder}/${name}`);
    bytes += Buffer.byteLength(content);
    if (bytes > ITEM_BYTES)
      throw refusal(
        "directory",
        `${folder}/${name}`,
        `makes the item too large; a DynamoDB item holds ${ITEM_BYTES} bytes`,
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
    throw refusal(param, path, "leads outside the sources directory; use a path like artifacts/version.txt");
  }
  // Bun's realpath takes a backslash for a slash, and would lead to another file.
  if (path.includes("\\"))
    throw refusal(param, path, "has a backslash in its name, which cannot be read here");
  try {
    const root = await realpath(sources);
    const real = await realpath(`${root}/${path}`);
    if (isWithin(root, real)) return real;
  } catch (error) {
    const code = codeOf(error);
    throw code === "ENOENT"
      ? refusal(param, path, `does not exist; ${await describeInputs(sources, path)}`, error)
      : refusal(param, path, `cannot be read: ${code}`, error);
  }
  throw refusal(param, path, LINK_OUTSIDE);
}

function isWithin(root: string, path: string): boolean {
  return path === root || path.startsWith(root === "/" ? root : `${root}/`);
}

/** The whole text of a file that really is in the sources directory. */
async function readText(param: string, sources: string, file: string): Promise<string> {
  const path = await pathWithin(param, sources, file);
  let bytes;
  try {
    await using handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = await handle.stat();
    // Links can be changed after they were followed; what counts is the file that was opened.
    if (!isWithin(await realpath(sources), await readlink(`/proc/self/fd/${handle.fd}`)))
      throw refusal(param, file, LINK_OUTSIDE);
    if (stat.isDirectory()) throw refusal(param, file, "is a directory; only files are supported");
    if (!stat.isFile()) throw refusal(param, file, "is not a regular file; only files are supported");
    if (stat.size > MOST_READ_BYTES) throw refusal(param, file, tooLarge(stat.size));
    bytes = await handle.readFile();
  } catch (error) {
    const code = codeOf(error);
    throw code === undefined ? error : refusal(param, file, `cannot be read: ${code}`, error);
  }
  if (isUnmarkedUtf16(bytes))
    throw refusal(param, file, "is UTF-16 without a byte-order mark; save it as UTF-8");
  const text = decode(param, file, bytes);
  if (text.includes("\0"))
    throw refusal(param, file, "contains a NUL character, which Concourse cannot store");
  return text;
}

/**
 * Whether every second byte is one as of letters in UTF-16: with Latin ones among them, 0 and others below 8; else the
 * same one of Greek, Cyrillic, Hebrew or Arabic, since text in UTF-8 may have control characters.
 */
function isUnmarkedUtf16(bytes: Buffer): boolean {
  const hasNul = bytes.includes(0);
  const isHighAt = (parity: number) =>
    bytes.every(
      (byte, index) =>
        index % 2 !== parity || (byte < 8 && (hasNul || (byte >= 3 && byte === bytes[parity]))),
    );
  return bytes.length >= 4 && isHighAt(0) !== isHighAt(1);
}

/** The text of a file's bytes: UTF-8, or in a single file UTF-16 where a byte-order mark says so. */
function decode(param: string, file: string, bytes: Buffer): string {
  const mark = bytes.toString("hex", 0, 2);
  const utf16 = mark === "fffe" ? "utf-16le" : mark === "feff" ? "utf-16be" : undefined;
  const encoding = param === "file" && utf16 !== undefined ? utf16 : "utf-8";
  try {
    return new TextDecoder(encoding, { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    const reason =
      encoding === "utf-8"
        ? `is not UTF-8 text${utf16 === undefined ? "" : ", but UTF-16"}; save it as UTF-8`
        : "starts with a UTF-16 byte-order mark but is not valid UTF-16; save it as UTF-8";
    throw refusal(param, file, reason, cause);
  }
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
  const how = "set params.value, file, directory or bump";
  let reason = `more than one ${DEFAULT_FILE} (${shorten(files)}); set params.file`;
  if (names.length === 0) reason = `${NO_INPUTS}; ${ADD_INPUTS}, or ${how}`;
  else if (files.length === 0) {
    reason = `no ${DEFAULT_FILE} at the top level of an input; ${how} (inputs: ${shorten(names)})`;
  }
  throw new Error(`no value to put: ${reason}`);
}

async function list(sources: string): Promise<string[]> {
  try {
    return await readdir(sources);
  } catch (cause) {
    throw new Error(
      `the sources directory ${JSON.stringify(sources)} cannot be read: ${codeOf(cause) === "ENOENT" ? "it does not exist" : codeOf(cause)}`,
      {
        cause,
      },
    );
  }
}

async function describeInputs(sources: string, path?: string): Promise<string> {
  const names = await list(sources);
  const [first, ...rest] = path?.split("/") ?? [];
  const suspect = rest.length > 0 && first !== undefined && !names.includes(first) ? first : undefined;
  if (names.length === 0) {
    return suspect === undefined
      ? `${NO_INPUTS}; ${ADD_INPUTS}`
      : `${NO_INPUTS}; is ${JSON.stringify(suspect)} the name of an artifact? (inputs: detect mounts only what params name)`;
  }
  const inputs = `the put step has these inputs: ${shorten(names)}`;
  return suspect === undefined ? inputs : `${JSON.stringify(suspect)} is not an input; ${inputs}`;
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
