/** The main job at a glance: a value goes from one pipeline to another, by way of an embedded DynamoDB. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { startDynalite } from "./engine.ts";
import { printTable } from "../../.ci/markdown.ts";
import { type Answer, dist, type StepName, type Version } from "./step.ts";
import { createTable } from "./table.ts";

const engine = await startDynalite();
await using table = await createTable(engine, { name: "packages-table" });
const { source } = table;
const folder = await mkdtemp(`${tmpdir()}/demo-`);

/** Runs a step and shows what Concourse sends and gets. */
async function show<Result>(
  step: StepName,
  request: Record<string, unknown>,
  words: string[] = [],
): Promise<Result> {
  const blanked = { source: { ...source, access_key: "***", secret_key: "***" }, ...request };
  console.log(`$ /opt/resource/${[step, ...words].join(" ")} <<'JSON'\n${pretty(blanked)}\nJSON`);
  const { status, stdout, stderr } = await dist.run(step, { ...request, source }, { words });
  for (const line of stderr) console.log(line);
  if (status !== 0) throw new Error(`${step} ended with status ${status}`);
  const answer = JSON.parse(stdout);
  console.log(`${pretty(answer)}\n`);
  return answer;
}

/** JSON with its small objects, of two texts each, on one line. */
function pretty(document: unknown): string {
  return JSON.stringify(document, null, 2).replace(/\{\n\s+(".*"),\n\s+(".*")\n\s+\}/g, "{ $1, $2 }");
}

function say(sentence: string): void {
  console.log(`# ${sentence}\n`);
}

try {
  say(`An embedded DynamoDB listens at ${engine.endpoint}, with the table ${source.table_name}.`);
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
} finally {
  await rm(folder, { recursive: true });
}
