import { InRequest } from "../shared/schema.ts";
import { runStep } from "../shared/step.ts";
import { get } from "./get.ts";

await runStep({
  name: "in",
  summary: "writes a version to files; makes no requests",
  folder: "DESTINATION",
  example: { version: { value: "package-1.2", created: "2026-11-23T15:04:05.123Z" } },
  request: InRequest,
  run: get,
});
