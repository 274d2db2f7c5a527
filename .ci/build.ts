/** Compiles the three executables: `bun run build [--target bun-linux-arm64] [--outdir dist]`. */
import { dirname, resolve } from "node:path";
import { parseArgs } from "node:util";
import { Glob } from "bun";

/** The folder of the checkout. */
export const ROOT = resolve(`${import.meta.dir}/..`);

const STEPS = ["check", "in", "out"];

/** The parts of the SDK that have a form for browsers, which needs none of Node's built-ins and starts in half the time. */
const FOR_BROWSERS = ["@aws-sdk/client-dynamodb", "@aws-sdk/core", "@smithy/core"];

/**
 * Modules of the SDK that would build tables at each start where Bun has the function built in, or that serve what
 * is not used here: 0.4 ms of a check.
 */
const SHORTENED = {
  "@smithy/core/dist-es/submodules/serde/util-hex-encoding/hex-encoding.js":
    "export const fromHex = (text) => Uint8Array.fromHex(text); export const toHex = (bytes) => bytes.toHex();",
  "@smithy/core/dist-es/submodules/serde/util-base64/fromBase64.browser.js": `export * from "./fromBase64.js";`,
  "@smithy/core/dist-es/submodules/serde/util-base64/toBase64.browser.js": `export * from "./toBase64.js";`,
  "@smithy/core/dist-es/submodules/serde/uuid/v4.js":
    "export const bindV4 = () => () => crypto.randomUUID();",
};

/**
 * Takes the SDK's modules in their form for browsers, by the `browser` maps of its own packages, and some of them
 * shortened; fails the build when an update of the SDK has modules elsewhere, so that some of them are not met.
 */
async function forBrowsers(): Promise<Bun.BunPlugin> {
  const forms = new Map(
    Object.entries(SHORTENED).map(([module, form]) => [`${ROOT}/node_modules/${module}`, form]),
  );
  for (const name of FOR_BROWSERS) {
    const manifest = Bun.resolveSync(`${name}/package.json`, ROOT);
    const path = (module: string) => resolve(dirname(manifest), module.replace(/(\.js)?$/, ".js"));
    const { browser } = await Bun.file(manifest).json();
    for (const [module, form] of Object.entries<string>(browser)) {
      forms.set(path(module), `export * from ${JSON.stringify(path(form))};`);
    }
  }
  const met = new Set<string>();
  return {
    name: "for browsers",
    setup: (build) => {
      build.onLoad({ filter: /\/@(aws-sdk|smithy)\/.+\.js$/ }, async ({ path }) => {
        const form = forms.get(path);
        if (form) met.add(path);
        return { contents: form ?? (await Bun.file(path).text()), loader: "js" };
      });
      build.onEnd(() => {
        const missing = [...forms.keys()].filter((path) => !met.has(path));
        if (met.size > 0 && missing.length > 0) throw new Error(`not met in the SDK: ${missing.join(", ")}`);
      });
    },
  };
}

/** The credential chain in one module, in its form for Node: it reads files and starts programs. */
async function credentialChain(): Promise<Bun.BunPlugin> {
  const path = `${ROOT}/shared/credentials.ts`;
  const { outputs } = await Bun.build({
    entrypoints: [path],
    target: "bun",
    format: "esm",
    conditions: ["module"],
    minify: true,
  });
  const contents = (await outputs[0]?.text()) ?? "";
  return {
    name: "credential chain",
    setup: (build) => {
      build.onLoad({ filter: /\/shared\/credentials\.ts$/ }, () => ({ contents, loader: "js" }));
    },
  };
}

/** Compiles a program into one file, for this machine or for another target that Bun knows. */
export async function compile(entrypoint: string, outfile: string, target?: string): Promise<void> {
  await Bun.build({
    entrypoints: [entrypoint],
    plugins: await Promise.all([forBrowsers(), credentialChain()]),
    compile: {
      outfile,
      ...(target && { target: target as Bun.Build.CompileTarget }),
      // What a binary finds in the folder that it runs in is no part of it.
      autoloadDotenv: false,
      autoloadBunfig: false,
      autoloadTsconfig: false,
      autoloadPackageJson: false,
      // Whatever is mounted in /etc/ssl/certs counts, in every layout that Linux distributions have.
      execArgv: ["--use-system-ca"],
      // Start-up code runs once: compiling it further costs more than it gives.
      jitPolicy: 1000,
    },
    conditions: ["module"],
    format: "esm",
    bytecode: true,
    minify: true,
    splitting: true,
  });
}

/** Compiles the three executables into a folder, for this machine or for another target that Bun knows. */
export async function compileSteps(outdir: string, target?: string): Promise<void> {
  for (const step of STEPS) await compile(`${ROOT}/${step}/main.ts`, `${outdir}/${step}`, target);
}

/** Compiles the three executables into `dist` where one is missing or older than what they are made of. */
export async function buildIfStale(): Promise<void> {
  const sources = [
    "package.json",
    "bun.lock",
    ".ci/build.ts",
    ...new Glob("{check,in,out,shared}/*.ts").scanSync(ROOT),
  ];
  const changed = Math.max(...sources.map((file) => Bun.file(`${ROOT}/${file}`).lastModified));
  // A file that is not there was modified at time 0.
  const isStale = ({ size, lastModified }: Bun.BunFile) => size === 0 || lastModified < changed;
  if (STEPS.some((step) => isStale(Bun.file(`${ROOT}/dist/${step}`)))) await compileSteps(`${ROOT}/dist`);
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: { target: { type: "string" }, outdir: { type: "string", default: "dist" } },
  });
  await compileSteps(values.outdir, values.target);
}
