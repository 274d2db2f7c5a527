import { CheckRequest } from "../shared/schema.ts";
import { runStep } from "../shared/step.ts";
import { check } from "./check.ts";

await runStep({
  name: "check",
  summary: "lists the versions of a key, oldest first",
  example: {},
  request: CheckRequest,
  hasValueOption: true,
  valueIn: ([newest]) => newest?.value ?? "",
  run: check,
});
