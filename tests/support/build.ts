/** Compiles the three executables: `bun run build [--target bun-linux-arm64] [--outdir dist]`. */
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: { target: { type: "string" }, outdir: { type: "string", default: "dist" } },
});

for (const step of ["check", "in", "out"]) {
  await Bun.build({
    entrypoints: [`${import.meta.dir}/../../${step}/main.ts`],
    compile: {
      outfile: `${values.outdir}/${step}`,
      ...(values.target && { target: values.target as Bun.Build.CompileTarget }),
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
  });
}
