import { cp, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import * as v from "valibot";
import type { Answer, Steps } from "./step.ts";

/** A version of any resource. */
type Seen = Record<string, string>;
type Tree = Record<string, string>;

/** A build of a job that has ended. */
export interface Build {
  job: string;
  /** Why it did not succeed; undefined where it did. */
  error: string | undefined;
  /** What its tasks wrote to stdout. */
  printed: string;
  /** The versions that its gets were given, by the get's name. */
  inputs: Record<string, Seen>;
  /** The versions that its puts made, by the put's name. */
  outputs: Record<string, Seen>;
  /** Its first and its last place among all that happened in its Concourse. */
  began: number;
  ended: number;
}

export interface Pipeline {
  /** The versions that are saved for a resource, the oldest first. */
  versions: (resource: string) => Seen[];
  /** Makes a version of a resource of another type, such as git: these files. */
  push: (resource: string, files: Tree) => void;
  /** Checks a resource and gives the versions that are saved for it then. */
  check: (resource: string) => Promise<Seen[]>;
  /** Builds a job as a click on its plus does. */
  run: (job: string) => Promise<Build>;
  /** Checks all resources and builds what their triggers ask for, until they ask for nothing more. */
  tick: () => Promise<Build[]>;
}

export interface Concourse extends AsyncDisposable {
  /** Sets a pipeline from a file; its variables join those that all pipelines have. */
  setPipeline: (name: string, file: string, vars?: Record<string, unknown>) => Promise<Pipeline>;
}

const REPOSITORY = "ghcr.io/OWNER/dynamo-keyval-resource";
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// What is no field here is none in Concourse or not played: either way the file must not have it.
const fields = v.record(v.string(), v.unknown());
const names = v.array(v.strictObject({ name: v.string() }));

const Get = v.strictObject({
  get: v.string(),
  resource: v.optional(v.string()),
  trigger: v.optional(v.boolean(), false),
  version: v.optional(v.picklist(["latest", "every"]), "latest"),
  params: v.optional(fields),
});
const Put = v.strictObject({
  put: v.string(),
  resource: v.optional(v.string()),
  inputs: v.array(v.string()),
  params: v.optional(fields),
  get_params: v.optional(fields),
  no_get: v.optional(v.boolean(), false),
});
const Task = v.strictObject({
  task: v.string(),
  config: v.strictObject({
    platform: v.literal("linux"),
    image_resource: v.strictObject({ type: v.literal("registry-image"), source: fields }),
    params: v.optional(fields, {}),
    inputs: v.optional(names, []),
    outputs: v.optional(names, []),
    run: v.strictObject({ path: v.string(), args: v.array(v.string()) }),
  }),
});
const LoadVar = v.strictObject({
  load_var: v.string(),
  file: v.string(),
  format: v.optional(v.picklist(["json", "yaml", "yml", "trim", "raw"])),
  reveal: v.optional(v.boolean(), false),
});
type Get = v.InferOutput<typeof Get>;
type Put = v.InferOutput<typeof Put>;
type Task = v.InferOutput<typeof Task>;
type LoadVar = v.InferOutput<typeof LoadVar>;
type Step = Get | Put | Task | LoadVar | { do: Step[] } | { in_parallel: Step[] };
const Step: v.GenericSchema<unknown, Step> = v.lazy(() =>
  v.union([
    Get,
    Put,
    Task,
    LoadVar,
    v.strictObject({ do: v.array(Step) }),
    v.strictObject({ in_parallel: v.array(Step) }),
  ]),
);
const Document = v.strictObject({
  resource_types: v.array(
    v.strictObject({
      name: v.string(),
      type: v.literal("registry-image"),
      source: fields,
      defaults: v.optional(fields),
    }),
  ),
  resources: v.array(
    v.strictObject({
      name: v.string(),
      type: v.string(),
      icon: v.optional(v.string()),
      check_every: v.optional(v.literal("never")),
      source: fields,
    }),
  ),
  jobs: v.array(
    v.strictObject({
      name: v.string(),
      serial: v.optional(v.boolean(), false),
      serial_groups: v.optional(v.array(v.string()), []),
      plan: v.array(Step),
    }),
  ),
});
type Job = v.InferOutput<typeof Document>["jobs"][number];

/** Plays Concourse with these binaries; their DynamoDB is at `endpoint`, which no pipeline names. */
export async function startConcourse(
  { answerOf }: Pick<Steps, "answerOf">,
  endpoint: string,
  vars: Record<string, unknown>,
): Promise<Concourse> {
  const root = await mkdtemp(`${tmpdir()}/concourse-`);
  let events = 0;
  let builds = 0;

  const setPipeline: Concourse["setPipeline"] = async (pipeline, file, ownVars = {}) => {
    const yaml = Bun.YAML.parse(await Bun.file(file).text());
    const {
      resource_types: types,
      resources,
      jobs,
    } = v.parse(Document, interpolate(yaml, { ...vars, ...ownVars }, ""));
    const saved = new Map<string, Seen[]>(resources.map(({ name }) => [name, []]));
    const pushed = new Map<string, Tree[]>();
    const ended = new Map<string, Build[]>(jobs.map(({ name }) => [name, []]));
    const turns = new Map<string, Promise<unknown>>();

    const versions = (resource: string) => existing(saved.get(resource), resource);
    const endedOf = (job: Job) => existing(ended.get(job.name), job.name);

    const sourceOf = (resource: string) => {
      const { type, source } = named(resources, resource);
      const definition = types.find(({ name }) => name === type);
      if (definition?.source.repository !== REPOSITORY) return undefined;
      return { ...definition.defaults, ...source, endpoint };
    };

    const check: Pipeline["check"] = async (resource) => {
      const source = sourceOf(resource);
      const known = versions(resource);
      if (source === undefined) return known;
      const cursor = known.at(-1);
      const found = await answerOf<Seen[]>("check", { source, ...(cursor && { version: cursor }) });
      // As Concourse does it: with one that is new, the whole answer becomes the end of the order.
      if (found.some((version) => !isIn(known, version))) {
        known.splice(0, known.length, ...known.filter((version) => !isIn(found, version)), ...found);
      }
      return known;
    };

    /** The versions that a build of a job would get now; undefined while a resource has none. */
    const inputsOf = (job: Job): Record<string, Seen> | undefined => {
      const inputs: Record<string, Seen> = {};
      for (const { get, resource = get, version } of getsOf(job)) {
        const known = versions(resource);
        const last = endedOf(job).at(-1)?.inputs[get];
        const next =
          version === "every" && last !== undefined
            ? (known[known.findIndex((one) => Bun.deepEquals(one, last)) + 1] ?? last)
            : known.at(-1);
        if (next === undefined) return undefined;
        inputs[get] = next;
      }
      return inputs;
    };

    const isDue = (job: Job): boolean => {
      const inputs = inputsOf(job);
      return getsOf(job).some(
        ({ get, trigger }) =>
          trigger &&
          inputs !== undefined &&
          !endedOf(job).some((build) => Bun.deepEquals(build.inputs[get], inputs[get])),
      );
    };

    const build = async (job: Job): Promise<Build> => {
      const groups = [...job.serial_groups, ...(job.serial ? [`job ${job.name}`] : [])];
      const before = Promise.all(groups.map((group) => turns.get(group) ?? Promise.resolve()));
      const built = before.then(async () => {
        const began = ++events;
        const id = `${++builds}`;
        const inputs = existing(inputsOf(job), `version for each input of ${job.name}`);
        const surroundings = {
          answerOf,
          folder: `${root}/${id}`,
          env: {
            ATC_EXTERNAL_URL: "https://ci.example.com",
            BUILD_ID: id,
            BUILD_NAME: `${endedOf(job).length + 1}`,
            BUILD_JOB_NAME: job.name,
            BUILD_PIPELINE_NAME: pipeline,
            BUILD_TEAM_NAME: "main",
          },
          sourceOf,
          versions,
          filesOf: (resource: string, { ref }: Seen) =>
            existing(pushed.get(resource)?.[Number(ref) - 1], `${resource} at ${ref}`),
        };
        const done = await play(job, inputs, surroundings);
        const one = { job: job.name, inputs, ...done, began, ended: ++events };
        endedOf(job).push(one);
        return one;
      });
      const over = built.catch(() => {});
      for (const group of groups) turns.set(group, over);
      return built;
    };

    return {
      versions,
      push: (resource, files) => {
        const trees = [...(pushed.get(resource) ?? []), files];
        pushed.set(resource, trees);
        versions(resource).push({ ref: `${trees.length}` });
      },
      check,
      run: async (name) => {
        const job = named(jobs, name);
        await Promise.all(getsOf(job).map(({ get, resource = get }) => check(resource)));
        return build(job);
      },
      tick: async () => {
        const checked = resources.filter(({ check_every }) => check_every !== "never");
        await Promise.all(checked.map(({ name }) => check(name)));
        const done: Build[] = [];
        for (let due = jobs.filter(isDue); due.length > 0; due = jobs.filter(isDue)) {
          done.push(...(await Promise.all(due.map(build))));
        }
        return done;
      },
    };
  };

  return { setPipeline, [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }) };
}

/** What a build finds in its pipeline and its worker. */
interface Surroundings extends Pick<Steps, "answerOf"> {
  folder: string;
  env: Record<string, string>;
  /** The source for the binaries; undefined for a resource of another type. */
  sourceOf: (resource: string) => Record<string, unknown> | undefined;
  versions: (resource: string) => Seen[];
  /** The files of a version of a resource of another type. */
  filesOf: (resource: string, version: Seen) => Tree;
}

/** Runs the plan of a job until it ends or a step fails. */
async function play(
  job: Job,
  inputs: Record<string, Seen>,
  { answerOf, folder, env, sourceOf, versions, filesOf }: Surroundings,
): Promise<Pick<Build, "error" | "printed" | "outputs">> {
  const artifacts = new Map<string, string>();
  const locals: Record<string, unknown> = {};
  const outputs: Record<string, Seen> = {};
  let printed = "";
  let folders = 0;

  const newFolder = async (name: string) => {
    const made = `${folder}/${++folders}/${name}`;
    await mkdir(made, { recursive: true });
    return made;
  };
  const artifact = (name: string) => existing(artifacts.get(name), `artifact ${name}`);
  const copyArtifacts = (titles: string[], destination: string) =>
    Promise.all(titles.map((name) => cp(artifact(name), `${destination}/${name}`, { recursive: true })));

  const fetchInto = async (
    name: string,
    resource: string,
    version: Seen,
    params: Record<string, unknown> | undefined,
  ) => {
    const source = sourceOf(resource);
    const destination = await newFolder(name);
    if (source === undefined) {
      const files = Object.entries(filesOf(resource, version));
      await Promise.all(files.map(([path, text]) => Bun.write(`${destination}/${path}`, text)));
    } else {
      const request = { source, version, ...(params && { params }) };
      const { metadata } = await answerOf<Answer>("in", request, { words: [destination], env });
      locals[name] = Object.fromEntries(metadata.map(({ name: field, value }) => [field, value]));
    }
    artifacts.set(name, destination);
  };

  const runPut = async ({ put, resource = put, ...step }: Put) => {
    const source = existing(sourceOf(resource), `binary for a put of ${resource}`);
    const sources = await newFolder("put");
    await copyArtifacts(step.inputs, sources);
    const request = { source, ...(step.params && { params: step.params }) };
    const { version } = await answerOf<{ version: Seen }>("out", request, { words: [sources], env });
    outputs[put] = version;
    if (!isIn(versions(resource), version)) versions(resource).push(version);
    if (!step.no_get) await fetchInto(put, resource, version, step.get_params);
  };

  const runTask = async ({ task, config }: Task) => {
    const cwd = await newFolder("task");
    const wanted = config.inputs.map(({ name }) => name);
    await copyArtifacts(wanted, cwd);
    await Promise.all(config.outputs.map(({ name }) => mkdir(`${cwd}/${name}`, { recursive: true })));
    const params = Object.entries(config.params).map(([name, value]) => [
      name,
      typeof value === "string" ? value : JSON.stringify(value),
    ]);
    const child = Bun.spawn([config.run.path, ...config.run.args], {
      cwd,
      env: { PATH, ...Object.fromEntries(params) },
      stdout: "pipe",
      stderr: "pipe",
    });
    const [stdout, stderr, status] = await Promise.all([
      child.stdout.text(),
      child.stderr.text(),
      child.exited,
    ]);
    printed += stdout;
    if (status !== 0) throw new Error(`task ${task} ended with status ${status}: ${stderr}`);
    for (const { name } of config.outputs) artifacts.set(name, `${cwd}/${name}`);
  };

  const runLoadVar = async ({ load_var: name, file, format }: LoadVar) => {
    const [first = "", ...path] = file.split("/");
    const text = await Bun.file([artifact(first), ...path].join("/")).text();
    locals[name] = parsed(text, format ?? file.split(".").at(-1) ?? "");
  };

  const runStep = async (given: Step): Promise<void> => {
    if ("do" in given) {
      for (const one of given.do) await runStep(one);
      return;
    }
    if ("in_parallel" in given) {
      await Promise.all(given.in_parallel.map(runStep));
      return;
    }
    const step = interpolate(given, locals, ".:");
    if ("get" in step) {
      const { get, resource = get, params } = step;
      await fetchInto(get, resource, existing(inputs[get], `version for ${get}`), params);
    } else if ("put" in step) await runPut(step);
    else if ("task" in step) await runTask(step);
    else await runLoadVar(step);
  };

  const error = await runStep({ do: job.plan }).then(
    () => undefined,
    (failure: Error) => failure.message,
  );
  return { error, printed, outputs };
}

function getsOf({ plan }: Job): Get[] {
  const getsIn = (steps: Step[]): Get[] =>
    steps.flatMap((step) => {
      if ("get" in step) return [step];
      if ("do" in step) return getsIn(step.do);
      return "in_parallel" in step ? getsIn(step.in_parallel) : [];
    });
  return getsIn(plan);
}

function parsed(text: string, format: string): unknown {
  if (format === "json") return JSON.parse(text);
  if (format === "yaml" || format === "yml") return Bun.YAML.parse(text);
  return format === "raw" ? text : text.trim();
}

function isIn(versions: Seen[], version: Seen): boolean {
  return versions.some((one) => Bun.deepEquals(one, version));
}

function named<Thing extends { name: string }>(things: Thing[], name: string): Thing {
  return existing(
    things.find((thing) => thing.name === name),
    name,
  );
}

/** Puts variables of one scope in: `.:` is the build's own, nothing is the pipeline's; a whole `((x))` keeps its type. */
function interpolate<Given>(given: Given, vars: Record<string, unknown>, scope: "" | ".:"): Given {
  const valueOf = (path: string) => {
    let value: unknown = vars;
    for (const name of path.split(".")) value = (value as Record<string, unknown> | undefined)?.[name];
    return existing(value, `variable ((${scope}${path}))`);
  };
  const inText = (text: string): unknown => {
    const variable = new RegExp(`\\(\\(${scope === "" ? "" : "\\.:"}([\\w-]+(?:\\.[\\w-]+)*)\\)\\)`, "g");
    const [whole] = text.matchAll(variable);
    if (whole?.[0] === text) return valueOf(whole[1]!);
    return text.replace(variable, (_, path: string) => {
      const value = valueOf(path);
      if (typeof value === "string" || typeof value === "number") return `${value}`;
      throw new Error(`Concourse puts only texts and numbers inside of a text, unlike ((${scope}${path}))`);
    });
  };
  const inAny = (value: unknown): unknown => {
    if (typeof value === "string") return inText(value);
    if (Array.isArray(value)) return value.map(inAny);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, inAny(field)]));
  };
  return inAny(given) as Given;
}

function existing<Value>(value: Value | null | undefined, what: string): Value {
  if (value == null) throw new Error(`no ${what}`);
  return value;
}
