export type StepName = "check" | "in" | "out";

/** How a binary is started, where not as Concourse does. */
export interface Start {
  /** The words on the command line. */
  words?: string[];
  env?: Record<string, string>;
  cwd?: string;
}

/** What one of the binaries did. */
export interface Outcome {
  status: number;
  stdout: string;
  /** The lines of stderr. */
  stderr: string[];
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

/** The command that starts a binary, wherever that is. */
export interface Command {
  cmd: string[];
  env?: Record<string, string>;
  cwd?: string;
}

/** The three binaries of one place. */
export interface Steps {
  command: (step: StepName, start?: Start) => Promise<Command>;
  /** Runs a binary as Concourse does: the request on stdin (a text goes as it is), a minimal environment, in `/`. */
  run: (step: StepName, request: unknown, start?: Start) => Promise<Outcome>;
  /** The answer of a step that must succeed. */
  answerOf: <Result>(step: StepName, request: unknown, start?: Start) => Promise<Result>;
}

/** A source of the README's table; nobody listens at its endpoint, so that a request is told of. */
export const unreachable = {
  table_name: "packages-table",
  partition_key: "application",
  key: "my-app",
  access_key: "AKIAtest",
  secret_key: "secret-of-the-tests",
  endpoint: "http://127.0.0.1:1",
};

const DIST = `${import.meta.dir}/../../dist`;
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** The binaries that a command for each of them starts. */
export function stepsOf(command: Steps["command"]): Steps {
  const run: Steps["run"] = async (step, request, start) => {
    const { cmd, ...options } = await command(step, start);
    const child = Bun.spawn(cmd, { ...options, stdin: bytesOf(request), stdout: "pipe", stderr: "pipe" });
    const [stdout, stderr, status] = await Promise.all([
      child.stdout.text(),
      child.stderr.text(),
      child.exited,
    ]);
    return { status, stdout, stderr: stderr.split("\n").filter((line) => line !== "") };
  };
  return {
    command,
    run,
    answerOf: async (step, request, start) => {
      const { status, stdout, stderr } = await run(step, request, start);
      if (status !== 0) throw new Error(`${step} failed: ${stderr.join("\n")}`);
      return JSON.parse(stdout);
    },
  };
}

/** The binaries in `dist`. */
export const dist = stepsOf(async (step, { words = [], env = {}, cwd = "/" } = {}) => ({
  cmd: [`${DIST}/${step}`, ...words],
  env: { PATH, ...env },
  cwd,
}));

function bytesOf(request: unknown): Uint8Array {
  if (request instanceof Uint8Array) return request;
  return Buffer.from(typeof request === "string" ? request : JSON.stringify(request));
}
