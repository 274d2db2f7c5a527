import { InRequest } from "../shared/schema.ts";
import { runStep } from "../shared/step.ts";
import { get } from "./get.ts";

await runStep({
  name: "in",
  summary: "writes a version's value into a folder; asks nobody",
  folder: "DESTINATION",
  request: InRequest,
  run: get,
});
