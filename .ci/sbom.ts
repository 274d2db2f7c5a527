/** A package of bun.lock: its name with its version, where it is from, what it needs, its checksum. */
type Locked = [string, string, { dependencies?: Record<string, string> }, string];

/** What a lockfile's reader needs to know of a package. */
interface Manifest {
  name: string;
  version: string;
  license: string;
  packageManager: string;
  dependencies: Record<string, string>;
}

/** The CycloneDX list of what the binaries are made of: the packages that they need at run time, and Bun itself. */
export function componentsOf(manifest: Manifest, lock: string): Record<string, unknown> {
  const { packages } = Bun.JSONC.parse(lock) as { packages: Record<string, Locked> };
  const needed = new Map<string, Locked>();
  const add = (within: string, dependencies: Record<string, string> = {}) => {
    for (const name of Object.keys(dependencies)) {
      const place = placeOf(name, within, packages);
      const locked = packages[place];
      if (!locked || needed.has(place)) continue;
      needed.set(place, locked);
      add(place, locked[2].dependencies);
    }
  };
  add("", manifest.dependencies);
  const libraries = Array.from(needed.values(), ([id, , , checksum]) => {
    const { name, version } = parse(id);
    const content = Buffer.from(checksum.replace(/^sha512-/, ""), "base64").toString("hex");
    return { type: "library", name, version, purl: purlOf(id), hashes: [{ alg: "SHA-512", content }] };
  });
  return {
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    version: 1,
    metadata: {
      component: {
        type: "application",
        name: manifest.name,
        version: manifest.version,
        licenses: [{ license: { id: manifest.license } }],
      },
    },
    components: [
      { type: "platform", ...parse(manifest.packageManager), purl: purlOf(manifest.packageManager) },
      ...libraries.toSorted((one, other) => (one.purl < other.purl ? -1 : 1)),
    ],
  };
}

/** Where a dependency is in the lockfile: beside the package that needs it, or further up. */
function placeOf(name: string, within: string, packages: Record<string, Locked>): string {
  const place = within ? `${within}/${name}` : name;
  if (packages[place]) return place;
  if (!within) throw new Error(`bun.lock has no package ${name}`);
  return placeOf(name, within.replace(/(^|\/)(@[^/]+\/)?[^/]+$/, ""), packages);
}

function parse(id: string): { name: string; version: string } {
  const at = id.lastIndexOf("@");
  return { name: id.slice(0, at), version: id.slice(at + 1) };
}

function purlOf(id: string): string {
  return `pkg:npm/${id.replace(/^@/, "%40")}`;
}
