import { isStored } from "../shared/dynamodb.ts";
import { OutRequest } from "../shared/schema.ts";
import { runStep } from "../shared/step.ts";
import { put } from "./put.ts";

await runStep({
  name: "out",
  summary: "puts a value as the newest version of a key",
  folder: "SOURCES",
  example: { params: { value: "package-1.2" } },
  request: OutRequest,
  hasValueOption: true,
  valueIn: ({ version }) => version.value,
  undelivered: ({ version }, { params }) => (params.get_latest ? undefined : isStored(version.created)),
  run: put,
});
