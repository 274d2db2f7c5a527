import { describe } from "bun:test";
import { hasDocker, image, startDynamodbLocal } from "./containers.ts";
import { startDynalite } from "./engine.ts";
import { dist, type Steps } from "./step.ts";
import { createTable, type Layout, type TestTable } from "./table.ts";

/** Binaries and the DynamoDB that they talk to. */
export interface Subject extends Steps {
  createTable: (layout?: Layout) => Promise<TestTable>;
}

const dynalite = await startDynalite();
const onDynalite = (layout?: Layout) => createTable(dynalite, layout);
const onDynamodbLocal = async (layout?: Layout) => createTable(await startDynamodbLocal(), layout);

/** Describes what the binaries do, for those in dist and, where a Docker engine answers, for those in the image. */
export function describeSteps(title: string, tests: (steps: Steps) => void): void {
  describe(`${title}, from dist`, () => tests(dist));
  describe.skipIf(!hasDocker)(`${title}, in the image`, () => tests(image));
}

/** Describes what the binaries do with a DynamoDB; where a Docker engine answers, in the image and with DynamoDB Local too. */
export function describeSubjects(title: string, tests: (subject: Subject) => void): void {
  describe(`${title}, from dist, on dynalite`, () => tests({ ...dist, createTable: onDynalite }));
  describe.skipIf(!hasDocker)(`${title}, from dist, on DynamoDB Local`, () =>
    tests({ ...dist, createTable: onDynamodbLocal }),
  );
  describe.skipIf(!hasDocker)(`${title}, in the image, on dynalite`, () =>
    tests({ ...image, createTable: onDynalite }),
  );
}
