/** The folder of the binaries under test. */
export const BINARIES = process.env.BINARIES ?? `${import.meta.dir}/../../dist`;

/** What one of the binaries did. */
export interface Outcome {
  status: number;
  stdout: string;
  /** The lines of stderr. */
  stderr: string[];
}

/** How a binary is started, where not as Concourse does. */
export interface Start {
  /** The words on the command line. */
  words?: string[];
  env?: Record<string, string>;
  cwd?: string;
}

export interface Version {
  value: string;
  created: string;
}

/** What in and out answer. */
export interface Answer {
  version: Version;
  metadata: { name: string; value: string }[];
}

export type StepName = "check" | "in" | "out";

/** Runs a binary as Concourse does: the request on stdin (a text goes as it is), a minimal environment, in `/`. */
export async function run(
  step: StepName,
  request: unknown,
  { words = [], env = {}, cwd = "/" }: Start = {},
): Promise<Outcome> {
  const input =
    typeof request === "string"
      ? Buffer.from(request)
      : request instanceof Uint8Array
        ? request
        : Buffer.from(JSON.stringify(request));
  const process = Bun.spawn([`${BINARIES}/${step}`, ...words], {
    cwd,
    env: { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", ...env },
    stdin: input,
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, status] = await Promise.all([
    process.stdout.text(),
    process.stderr.text(),
    process.exited,
  ]);
  return { status, stdout, stderr: stderr.split("\n").filter((line) => line !== "") };
}

/** The answer of a step that must succeed. */
export async function answerOf<Result>(step: StepName, request: unknown, start?: Start): Promise<Result> {
  const { status, stdout, stderr } = await run(step, request, start);
  if (status !== 0) throw new Error(`${step} failed: ${stderr.join("\n")}`);
  return JSON.parse(stdout);
}
