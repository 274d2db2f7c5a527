import { CheckRequest } from "../shared/schema.ts";
import { runStep } from "../shared/step.ts";
import { check } from "./check.ts";

await runStep({
  name: "check",
  summary: "gives the versions of a key, oldest first",
  example: {},
  request: CheckRequest,
  run: check,
});
