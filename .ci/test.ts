/**
 * Runs the tests as `bun test` does, with its options, and makes its output shorter: what is skipped is counted by its
 * reason, what failed is named once more at the end, and a long silence is a line that says so. Without arguments all
 * tests run, in three processes, since many of them mostly wait. The exit status is 0 when every test passed or
 * was skipped.
 */
import { readdir } from "node:fs/promises";
import { buildIfStale, ROOT } from "./build.ts";

const SILENCE_MS = 30_000;

/** The folders of tests that have a process of their own; one more has all the others. */
const GROUPS = [["aws"], ["order", "steps"]];

/** Why a test is skipped, by what is in its name. */
const REASONS: [RegExp, string][] = [
  [/clocks/, "libfaketime is not installed"],
  [/arm64/, "qemu-aarch64 is not installed"],
  [/skopeo/, "skopeo is not installed"],
  [/^under (bash|sh) -e|^with the token of a CI service/, "jq, curl or bash is not installed"],
  [/./, "no Docker engine answers"],
];

const skipped = new Map<string, number>();
const failed = new Set<string>();
const counts = { pass: 0, skip: 0, fail: 0 };
const files = new Set<string>();
let quiet = setTimeout(() => {}, 0);

function listen(): void {
  clearTimeout(quiet);
  quiet = setTimeout(() => {
    console.error(`(still running ${[...files].join(" and ")}: no result for ${SILENCE_MS / 1000} s)`);
    listen();
  }, SILENCE_MS);
}

function show(line: string, isListed: boolean): void {
  listen();
  const text = Bun.stripANSI(line);
  const [, count, kind] = /^ *(\d+) (pass|skip|fail)$/.exec(text) ?? [];
  if (kind !== undefined) {
    counts[kind as keyof typeof counts] += Number(count);
    return;
  }
  const [, failure] = /^\(fail\) (.*?)(?: \[[\d.]+ms\])?$/.exec(text) ?? [];
  if (failure !== undefined) failed.add(failure);
  const [, name] = /^\(skip\) (.*)$/.exec(text) ?? [];
  if (isListed && (name !== undefined || /^\d+ tests? skipped:$/.test(text))) return;
  if (name === undefined) {
    console.error(line);
    return;
  }
  const [, reason = ""] = REASONS.find(([pattern]) => pattern.test(name)) ?? [];
  skipped.set(reason, (skipped.get(reason) ?? 0) + 1);
}

async function run(words: string[]): Promise<number> {
  // Bun's own 5 s are too few; what the tests' preload sets holds for the first file alone.
  const child = Bun.spawn([process.execPath, "test", "--timeout", "120000", ...words], {
    stdin: "ignore",
    stdout: "inherit",
    stderr: "pipe",
  });
  let file = "";
  let rest = "";
  // At its end Bun lists them all once more.
  let isListed = false;
  for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (/^\S+\.test\.ts:$/.test(line)) {
        files.delete(file);
        file = line.slice(0, -1);
        files.add(file);
      }
      isListed ||= /^\d+ tests? skipped:$/.test(Bun.stripANSI(line));
      show(line, isListed);
    }
  }
  files.delete(file);
  if (rest !== "") show(rest, isListed);
  return child.exited;
}

const words = process.argv.slice(2);
// Here, so that not each process builds.
await buildIfStale();
const grouped = new Set([...GROUPS.flat(), "support", "examples"]);
const others = (await readdir(`${ROOT}/tests`)).filter((name) => !grouped.has(name));
const groups = [...GROUPS, others].map((folders) => folders.map((name) => `tests/${name}/`));
listen();
const statuses = await Promise.all(words.length > 0 ? [run(words)] : groups.map(run));
clearTimeout(quiet);
for (const [reason, count] of skipped) console.error(`${count} skipped: ${reason}`);
// A process that ended before the others has told them long ago.
for (const name of failed) console.error(`failed: ${name}`);
for (const [kind, count] of Object.entries(counts)) console.error(`${String(count).padStart(5)} ${kind}`);
process.exit(Math.max(...statuses));
