import compare from "semver/functions/compare";
import parse from "semver/functions/parse";
import { shown } from "./commands.ts";

/** How a version follows one. */
export interface Bump {
  bump?: "major" | "minor" | "patch" | "final" | "number" | undefined;
  /** The name of a pre-release. */
  pre?: string | undefined;
}

const MOST_DIGITS = 100;

/** What a key without any version is bumped from. */
export function firstOf({ bump }: Bump): string {
  return bump === "number" ? "0" : "0.0.0";
}

/**
 * The version that follows one: semantic ones in the words of Concourse's semver resource, and greater than it by
 * semver's order; whole numbers of at most 100 digits by `number`. `keepsFinal`: a final version is its own `final`.
 * Throws an Error in the user's words.
 */
export function bumped(newest: string, how: Bump, { keepsFinal = false } = {}): string {
  const version = newest.replace(/\r?\n$/, "");
  return how.bump === "number" ? nextNumber(version) : nextVersion(version, how, keepsFinal);
}

function nextNumber(version: string): string {
  const isNumber = /^(0|-?[1-9]\d{0,99})$/.test(version);
  const next = isNumber ? `${BigInt(version) + 1n}` : "";
  if (isNumber && next.replace("-", "").length <= MOST_DIGITS) return next;
  throw new Error(
    `params.bump: ${shown(version)} cannot be bumped; expected a whole number of at most ${MOST_DIGITS} digits (example: 41)`,
  );
}

function nextVersion(version: string, { bump, pre }: Bump, keepsFinal: boolean): string {
  const field = bump === undefined ? "params.pre" : "params.bump";
  // The library trims white space and takes other prefixes.
  const [, prefix = "", text = ""] = /^(v?)(\d[\dA-Za-z.+-]*)$/.exec(version) ?? [];
  const parsed = parse(text);
  if (parsed === null) {
    throw new Error(`${field}: ${shown(version)} is not a semantic version (example: 1.2.3 or 1.3.0-rc.1)`);
  }
  const { major, minor, patch, prerelease } = parsed;
  const isFinal = prerelease.length === 0;
  if (bump === "final" && isFinal) {
    if (keepsFinal) return `${prefix}${major}.${minor}.${patch}`;
    throw new Error(
      `params.bump: final of ${shown(version)} is ${shown(version)} itself; use major, minor or patch`,
    );
  }
  if (bump === undefined && isFinal) {
    throw new Error(
      `params.pre: ${shown(`${prefix}${major}.${minor}.${patch}-${pre}.1`)} is older than ${shown(version)}; use bump: major, minor or patch with pre`,
    );
  }
  const cores = {
    major: `${major + 1}.0.0`,
    minor: `${major}.${minor + 1}.0`,
    patch: `${major}.${minor}.${patch + 1}`,
    final: `${major}.${minor}.${patch}`,
    number: "",
  };
  const core = cores[bump ?? "final"];
  const [name, number] = bump === undefined ? prerelease : [];
  const counted = name === pre && typeof number === "number" ? number + 1 : 1;
  const next = pre === undefined ? core : `${core}-${pre}.${counted}`;
  if (parse(next) === null || compare(next, parsed) <= 0) {
    throw new Error(
      `${field}: ${shown(`${prefix}${next}`)} ${parse(next) === null ? `would follow ${shown(version)} but is not a valid version` : `is not greater than ${shown(version)}`}${bump === undefined ? "; use bump with pre" : ""}`,
    );
  }
  return `${prefix}${next}`;
}
