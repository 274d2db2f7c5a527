/**
 * Runs the tests as `bun test` does, with its options, and makes its output shorter: what is skipped is counted by its
 * reason, and a long silence is a line that says so. The exit status is that of the tests.
 */

const SILENCE_MS = 30_000;

/** Why a test is skipped, by what is in its name. */
const REASONS: [RegExp, string][] = [
  [/clocks/, "libfaketime is not installed"],
  [/arm64/, "qemu-aarch64 is not installed"],
  [/./, "no Docker engine answers"],
];

const skipped = new Map<string, number>();
let file = "";
let quiet = setTimeout(() => {}, 0);

// Bun's own 5 s are too few; what the tests' preload sets holds for the first file alone.
const child = Bun.spawn([process.execPath, "test", "--timeout", "120000", ...process.argv.slice(2)], {
  stdin: "ignore",
  stdout: "inherit",
  stderr: "pipe",
});

function listen(): void {
  clearTimeout(quiet);
  quiet = setTimeout(() => {
    console.error(`(still running ${file}; its last result came ${SILENCE_MS / 1000} s ago)`);
    listen();
  }, SILENCE_MS);
}

function show(line: string): void {
  listen();
  if (/^\S+\.test\.ts:$/.test(line)) file = line.slice(0, -1);
  const [, name] = /^\(skip\) (.*)$/.exec(Bun.stripANSI(line)) ?? [];
  if (name === undefined) {
    console.error(line);
    return;
  }
  const [, reason = ""] = REASONS.find(([pattern]) => pattern.test(name)) ?? [];
  skipped.set(reason, (skipped.get(reason) ?? 0) + 1);
}

listen();
let rest = "";
for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split("\n");
  rest = lines.pop() ?? "";
  for (const line of lines) show(line);
}
if (rest !== "") console.error(rest);
clearTimeout(quiet);
for (const [reason, count] of skipped) console.error(`${count} skipped: ${reason}`);
process.exit(await child.exited);
