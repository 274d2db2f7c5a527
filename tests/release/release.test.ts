import { describe, expect, test } from "bun:test";
import { floatingTags, imageOf, notesOf, versionOf } from "../../.ci/release.ts";

test("a release is of the version that package.json has", () => {
  expect(versionOf("v1.2.3", "1.2.3")).toBe("1.2.3");
  expect(() => versionOf("v1.2.4", "1.2.3")).toThrow(
    "the tag is v1.2.4, but the version in package.json is 1.2.3",
  );
  expect(() => versionOf("v1.2", "1.2.3")).toThrow("the tag v1.2 is not a version (example: v1.2.3)");
});

test("an image has no capitals in its name, whatever the owner's name has", () => {
  expect(imageOf("Some-Owner/dynamo-keyval-resource")).toBe("ghcr.io/some-owner/dynamo-keyval-resource");
});

test.each<[string, string[], string[]]>([
  ["1.0.0", [], ["1.0", "1", "latest"]],
  ["1.0.0", ["1.0.0", "1.0.0-zstd"], ["1.0", "1", "latest"]],
  ["1.0.1", ["1.0.0", "1.0", "1", "latest"], ["1.0", "1", "latest"]],
  ["1.0.1", ["1.0.0", "1.1.0"], ["1.0"]],
  ["1.9.0", ["1.10.0", "1.8.0"], ["1.9"]],
  ["1.2.0", ["2.0.0", "1.1.9"], ["1.2", "1"]],
  ["1.0.9", ["1.0.10"], []],
  ["1.0.0", ["10.0.0"], ["1.0", "1"]],
  ["1.0.0", ["2", "2.0", "2.0.0-zstd", "2.0.0-beta", `sha256-${"9".repeat(64)}`], ["1.0", "1", "latest"]],
])("%s, where %j are published, takes over %j", (version, tags, floating) => {
  expect(floatingTags(version, tags)).toEqual(floating);
});

describe("the notes of a release", () => {
  const changelog = `# Changelog

What changed.

## 1.1.0 (unreleased)

- Later.

## 1.0.10 (2026-12-02)

- Tenth.

## 1.0.1 (2026-12-01)

First.

### Fixed

- A bug.

## 1.0.0

## 0.9.0 (2026-11-01)

- Oldest.
`;

  test.each([
    ["1.0.1", "First.\n\n### Fixed\n\n- A bug."],
    ["1.0.10", "- Tenth."],
    ["0.9.0", "- Oldest."],
  ])("are the changelog's section about it: %s", (version, notes) => {
    expect(notesOf(changelog, version)).toBe(notes);
  });

  test.each([
    ["1.0.0", "CHANGELOG.md has nothing about 1.0.0"],
    ["2.0.0", "CHANGELOG.md has nothing about 2.0.0"],
    ["1.1.0", "CHANGELOG.md calls 1.1.0 unreleased; replace that by the date"],
  ])("are missing: %s", (version, message) => {
    expect(() => notesOf(changelog, version)).toThrow(message);
  });
});
