/**
 * The main job at a glance: a value goes from one pipeline to another, by way of an embedded DynamoDB. With `--keep` the
 * table stays up until Ctrl-C, so that the commands shown can be run again.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { startDynalite } from "./engine.ts";
import { printTable } from "../../.ci/markdown.ts";
import { type Answer, dist, type StepName, type Version } from "./step.ts";
import { createTable } from "./table.ts";

const isKept = process.argv.includes("--keep");
const isColoured = process.stdout.isTTY && !process.env.NO_COLOR;

const engine = await startDynalite();
await using table = await createTable(engine, { name: "packages-table" });
const { source } = table;
const folder = await mkdtemp(`${tmpdir()}/demo-`);

/** Runs a step and shows it as a command for a shell in which $source is set, with its answer. */
async function show<Result>(
  step: StepName,
  request: Record<string, unknown>,
  words: string[] = [],
): Promise<Result> {
  const rest = Object.entries(request).map(([name, part]) => `, "${name}": ${JSON.stringify(part)}`);
  const command = [`dist/${step}`, ...words].join(" ");
  console.log(paint("1", `${command} <<JSON\n{"source": $source${rest.join("")}}\nJSON`));
  const { status, stdout, stderr } = await dist.run(step, { ...request, source }, { words });
  for (const line of stderr) console.log(line);
  if (status !== 0) throw new Error(`${step} ended with status ${status}`);
  const answer = JSON.parse(stdout);
  console.log(`${pretty(answer)}\n`);
  return answer;
}

/** JSON with its small objects, of two strings each, on one line. */
function pretty(document: unknown): string {
  return JSON.stringify(document, null, 2).replace(/\{\n\s+(".*"),\n\s+(".*")\n\s+\}/g, "{ $1, $2 }");
}

function say(sentence: string): void {
  console.log(`${paint("36", `# ${sentence}`)}\n`);
}

function paint(colour: string, text: string): string {
  return isColoured ? `\x1b[${colour}m${text}\x1b[0m` : text;
}

try {
  say(
    `An embedded DynamoDB listens at ${engine.endpoint}, with the table ${source.table_name}. Its keys are made up.`,
  );
  say(
    "What follows runs in any shell, in this directory, while the table is up. Each request has this source:",
  );
  console.log(paint("1", `source='${JSON.stringify(source)}'\n`));
  const put: Version[] = [];
  for (const value of ["package-1.0", "package-1.1", "package-1.2"]) {
    say(
      `Pipeline "build": a task has written artifacts/version.txt, and "put: artifacts" without params puts it.`,
    );
    const sources = await mkdtemp(`${folder}/put-`);
    await Bun.write(`${sources}/artifacts/version.txt`, `${value}\n`);
    put.push((await show<Answer>("out", {}, [sources])).version);
  }
  say(`Pipeline "deploy": its first check gives the whole history.`);
  await show<Version[]>("check", {});
  say(`Its next check goes on from the version that it saw last, here the second one.`);
  const versions = await show<Version[]>("check", { version: put[1] });
  say(`"get: artifacts" gets the newest one.`);
  const destination = `${folder}/get/artifacts`;
  await show<Answer>("in", { version: versions.at(-1) }, [destination]);
  say(
    `Its task reads artifacts/version.txt: "Artifact is ${(await Bun.file(`${destination}/version.txt`).text()).trim()}"`,
  );
  say("The table:");
  const items = (await table.items()).toReversed();
  printTable(
    items.map(({ application, created, value }) => ({
      application: `\`${application}\``,
      created: `\`${created}\``,
      value: `\`${value}\``,
    })),
  );
  console.log();
  say("The programs are dist/check, dist/in and dist/out. Next, try: dist/out --help");
  if (isKept) {
    say(
      `The table stays up, and ${folder} in place, until you press Ctrl-C; copy the commands to another terminal.`,
    );
    await new Promise((stop) => {
      for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, stop);
    });
  } else {
    say("The table is gone now. To run the commands yourself, keep it up: bun run demo --keep");
  }
} finally {
  await rm(folder, { recursive: true });
}
