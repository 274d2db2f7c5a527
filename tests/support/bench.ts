/**
 * Measures what the binaries in `dist` cost, A and B in turn, and prints medians and ratios:
 * `bun run bench [--pairs 41] [--only start-up,growth,contention,size] [--json] [--check]`; with `--check`, a missed bar makes
 * the exit status 1.
 */
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { parseArgs, promisify } from "node:util";
import { gzip } from "node:zlib";
import { oldStyleCreated } from "../../shared/created.ts";
import { createAuthority } from "./authority.ts";
import { compile } from "../../.ci/build.ts";
import { compress } from "../../.ci/layout.ts";
import { megabytes, printTable } from "../../.ci/markdown.ts";
import { startProxy } from "./proxy.ts";
import { createTable, type TestTable } from "./table.ts";

const { values: options } = parseArgs({
  options: {
    pairs: { type: "string", default: "41" },
    only: { type: "string", default: "start-up,growth,contention,size" },
    json: { type: "boolean", default: false },
    check: { type: "boolean", default: false },
  },
});

/** A program with what it reads on stdin. */
interface Program {
  name: string;
  cmd: string[];
  stdin: unknown;
  env?: Record<string, string>;
}

/** What one run of a program took. */
interface Cost {
  wall: number;
  cpu: number;
  memory: number;
}

/** One line of a table: a figure by its column. */
type Line = Record<string, string>;

const DIST = `${import.meta.dir}/../../dist`;
const SPAWNED = { cwd: "/", stdout: "pipe", stderr: "pipe" } as const;
const ENV = { PATH: "/usr/bin:/bin" };
// By then, the engine has its own code compiled.
const WARM_UP = 60;
const MOST_MEMORY_MIB = 128;
const DAY_MS = 24 * 60 * 60 * 1000;
const tables: Record<string, Line[]> = {};
const missed: string[] = [];
const folder = await mkdtemp(`${tmpdir()}/bench-`);

function spawn({ cmd, stdin, env = ENV }: Program) {
  return Bun.spawn(cmd, { ...SPAWNED, env, stdin: Buffer.from(JSON.stringify(stdin)) });
}

async function run(program: Program): Promise<Omit<Cost, "memory">> {
  const start = performance.now();
  const child = spawn(program);
  const [, stderr, status] = await Promise.all([child.stdout.bytes(), child.stderr.text(), child.exited]);
  const wall = performance.now() - start;
  if (status !== 0) throw new Error(`${program.cmd.join(" ")} failed: ${stderr}`);
  return { wall, cpu: Number(child.resourceUsage()?.cpuTime.total) / 1000 };
}

/** The peak of a run's memory (MiB), as Linux keeps it for a process; what it tells of an ended one is the parent's. */
async function peakMemory(program: Program): Promise<number> {
  const child = spawn(program);
  let peak = 0;
  while (child.exitCode === null) {
    const status = await Bun.file(`/proc/${child.pid}/status`)
      .text()
      .catch(() => "");
    peak = Math.max(peak, Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1] ?? 0) / 1024);
  }
  return peak;
}

async function cost(program: Program): Promise<Cost> {
  return { ...(await run(program)), memory: await peakMemory(program) };
}

function median(numbers: number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN;
}

/** Runs A and B in turn; the ratio is the median of the pairs' own. */
async function compare(a: Program, b: Program, bars: Partial<Cost>): Promise<void> {
  const pairs: [Cost, Cost][] = [];
  for (let pair = -WARM_UP; pair < Number(options.pairs); pair++) {
    const both: [Cost, Cost] = [await cost(a), await cost(b)];
    if (pair >= 0) pairs.push(both);
  }
  for (const [figure, unit] of [
    ["wall", "ms"],
    ["cpu", "ms"],
    ["memory", "MiB"],
  ] as const) {
    const ratio = median(pairs.map(([one, other]) => one[figure] / other[figure]));
    const bar = bars[figure];
    if (bar !== undefined && ratio > bar)
      missed.push(`${a.name} to ${b.name}, ${figure}: ${ratio.toFixed(2)} > ${bar}`);
    (tables["start-up"] ??= []).push({
      A: a.name,
      B: b.name,
      figure,
      "A's median": `${median(pairs.map(([one]) => one[figure])).toFixed(1)} ${unit}`,
      "B's median": `${median(pairs.map(([, other]) => other[figure])).toFixed(1)} ${unit}`,
      "A/B": ratio.toFixed(2),
      bar: bar === undefined ? "" : `≤ ${bar}`,
    });
  }
}

async function measureStartUp(table: TestTable): Promise<void> {
  const now = Date.now();
  const [cursor, newer] = [new Date(now - 60_000).toISOString(), new Date(now - 50_000).toISOString()];
  await table.add({ created: cursor, value: "package-1.1" }, { created: newer, value: "package-1.2" });
  const { source } = table;
  const version = { value: "package-1.1", created: cursor };
  await using proxy = startProxy(source.endpoint, () => undefined);
  await cost({
    name: "",
    cmd: [`${DIST}/check`],
    stdin: { source: { ...source, endpoint: proxy.endpoint }, version },
  });
  const [asked] = proxy.asked;
  const headers = { ...asked?.headers, host: undefined, "content-length": undefined };
  const floor = `const { endpoint, body } = await Bun.stdin.json();
    const answer = await fetch(endpoint, { method: "POST", headers: ${JSON.stringify(headers)}, body });
    await Bun.write(Bun.stdout, await answer.bytes());`;
  await Bun.write(`${folder}/floor.ts`, floor);
  await Bun.write(`${folder}/empty.ts`, "");
  await compile(`${folder}/floor.ts`, `${folder}/bin/floor`);
  await compile(`${folder}/empty.ts`, `${folder}/bin/empty`);
  // A file that is in memory already runs faster than one just written: all of them are copied anew.
  await cp(DIST, `${folder}/fresh`, { recursive: true, filter: (path) => !path.endsWith("/image") });
  await cp(`${folder}/bin`, `${folder}/fresh`, { recursive: true });
  const program = (name: string, stdin: unknown, ...words: string[]): Program => ({
    name,
    cmd: [`${folder}/fresh/${name}`, ...words],
    stdin,
  });
  await using secure = await startTls(source.endpoint);
  const overTls = (one: Program, stdin: unknown): Program => ({
    ...one,
    name: `${one.name}, TLS`,
    stdin,
    env: { ...ENV, SSL_CERT_FILE: secure.trusted },
  });
  const check = program("check", { source, version });
  const get = program("in", { source, version }, `${folder}/got`);
  const put = program(
    "out",
    { source: { ...source, key: "other" }, params: { value: "package-1.3" } },
    folder,
  );
  const body = JSON.stringify(asked?.body);
  const fetching = program("floor", { endpoint: source.endpoint, body });
  const empty = program("empty", {});
  await compare(check, fetching, { wall: 2.3, cpu: 2.8, memory: 2 });
  await compare(
    overTls(check, { source: { ...source, endpoint: secure.endpoint }, version }),
    overTls(fetching, { endpoint: secure.endpoint, body }),
    { wall: 1.7 },
  );
  await compare(check, empty, {});
  await compare(put, fetching, { wall: 3.2 });
  await compare(get, empty, { wall: 1.3 });
}

/** Stands before the DynamoDB at an endpoint with a certificate, to be trusted by a file besides the machine's own. */
async function startTls(endpoint: string) {
  const ca = await createAuthority("Bench");
  const certificate = await ca.certify();
  const trusted = `${folder}/trusted.pem`;
  await Bun.write(trusted, ca.cert);
  return Object.assign(
    startProxy(endpoint, () => undefined, certificate),
    { trusted },
  );
}

/** The capacity units that a check's answers tell, and how long it takes without being asked to tell. */
async function checkCost(table: TestTable, version: unknown, history: number): Promise<Line> {
  const source = { ...table.source, history };
  let units = 0;
  await using proxy = startProxy(source.endpoint, async ({ body }) => {
    const answer = await table.query({ ...body, ReturnConsumedCapacity: "TOTAL" });
    units += answer.ConsumedCapacity?.CapacityUnits ?? 0;
    return undefined;
  });
  const cmd = [`${DIST}/check`];
  await cost({ name: "", cmd, stdin: { version, source: { ...source, endpoint: proxy.endpoint } } });
  const costs: Cost[] = [];
  for (let round = 0; round < 11; round++)
    costs.push(await cost({ name: "", cmd, stdin: { version, source } }));
  const memory = median(costs.map((one) => one.memory));
  if (memory > MOST_MEMORY_MIB) missed.push(`a check took ${memory.toFixed(1)} MiB`);
  return {
    "capacity units": units.toFixed(1),
    wall: `${median(costs.map(({ wall }) => wall)).toFixed(1)} ms`,
    memory: `${memory.toFixed(1)} MiB`,
  };
}

async function measureGrowth(endpoint: string): Promise<void> {
  const spellings = {
    "today's": (time: number) => new Date(time).toISOString(),
    "C# resource's": oldStyleCreated,
  };
  for (const [spelling, spell] of Object.entries(spellings)) {
    for (const count of [10, 1000, 100_000]) {
      await using table = await createTable({ endpoint });
      // Five years of history, up to an hour ago.
      const end = Date.now() - 60 * 60 * 1000;
      const step = (5 * 365 * DAY_MS) / count;
      const items = Array.from({ length: count }, (_, index) => {
        const created = spell(end - (count - 1 - index) * step);
        return { created, value: `package-${index}` };
      });
      await table.add(...items);
      const checks = [
        { version: "the newest", given: items.at(-1), history: 1000 },
        { version: "none", given: undefined, history: 1000 },
        { version: "none, and all are wanted", given: undefined, history: count },
      ];
      for (const { version, given, history } of count === 100_000 ? checks : checks.slice(0, 1)) {
        (tables.growth ??= []).push({
          spelling,
          items: String(count),
          "check's version": version,
          ...(await checkCost(table, given, history)),
        });
      }
    }
  }
}

/** Many puts of one key, all started at one moment: what each asks, and when the last one is done. */
async function measureContention(endpoint: string): Promise<void> {
  for (const { writers, latency } of [
    { writers: 64, latency: undefined },
    { writers: 256, latency: [30, 80] as const },
  ]) {
    await using table = await createTable({ endpoint });
    await using proxy = startProxy(endpoint, async () => {
      if (latency) await Bun.sleep(latency[0] + Math.random() * (latency[1] - latency[0]));
      return undefined;
    });
    const source = { ...table.source, endpoint: proxy.endpoint };
    const start = performance.now();
    const puts = Array.from({ length: writers }, (_, index) =>
      run({ name: "out", cmd: [`${DIST}/out`, "/tmp"], stdin: { source, params: { value: `${index}` } } }),
    );
    const failed = (await Promise.allSettled(puts)).filter(({ status }) => status === "rejected").length;
    const seconds = (performance.now() - start) / 1000;
    const requests = proxy.asked.length / writers;
    if (failed > 0 || seconds > 45 || (writers === 64 && requests > 25))
      missed.push(
        `${writers} puts at once: ${failed} failed, ${requests.toFixed(1)} requests each, ${seconds.toFixed(1)} s`,
      );
    (tables.contention ??= []).push({
      "puts at once": String(writers),
      latency: latency ? `${latency[0]} to ${latency[1]} ms` : "none",
      "requests a put": requests.toFixed(1),
      "the last one done after": `${seconds.toFixed(1)} s`,
      failed: String(failed),
    });
  }
}

async function gzipped(path: string): Promise<string> {
  return megabytes((await promisify(gzip)(await Bun.file(path).bytes())).length);
}

async function measureSize(): Promise<void> {
  const names = ["check", "in", "out"];
  await Bun.$`tar -cf ${folder}/all.tar -C ${DIST} ${names}`.quiet();
  for (const name of names) {
    const path = `${DIST}/${name}`;
    (tables.size ??= []).push({
      file: name,
      bytes: megabytes(Bun.file(path).size),
      gzip: await gzipped(path),
      zstd: "",
    });
  }
  const all = await Bun.file(`${folder}/all.tar`).bytes();
  (tables.size ??= []).push({
    file: "all three, one stream",
    bytes: megabytes(all.length),
    gzip: await gzipped(`${folder}/all.tar`),
    zstd: megabytes((await compress(all, 19)).length),
  });
}

const engine = Bun.spawn([process.execPath, `${import.meta.dir}/engine.ts`], {
  stdout: "pipe",
  stdin: "pipe",
});
try {
  const { value: hello } = await engine.stdout.getReader().read();
  const endpoint = new TextDecoder().decode(hello).trim();
  if (options.only.includes("start-up")) {
    await using table = await createTable({ endpoint });
    await measureStartUp(table);
  }
  if (options.only.includes("growth")) await measureGrowth(endpoint);
  if (options.only.includes("contention")) await measureContention(endpoint);
  if (options.only.includes("size")) await measureSize();
} finally {
  engine.kill();
  await rm(folder, { recursive: true });
}
if (options.json) console.log(JSON.stringify({ ...tables, missed }, null, 2));
else {
  for (const [title, lines] of Object.entries(tables)) {
    console.log(`\n${title}\n`);
    printTable(lines);
  }
}
for (const one of missed) console.error(`missed: ${one}`);
if (options.check && missed.length > 0) process.exitCode = 1;
