import { afterAll, setDefaultTimeout } from "bun:test";
import { buildIfStale } from "../../.ci/build.ts";
import { stopContainers } from "./containers.ts";

// Bun's own 5 s are too few for a test that starts an engine or waits for a step's time to be up.
setDefaultTimeout(120_000);

await buildIfStale();

afterAll(stopContainers);
