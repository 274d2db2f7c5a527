import * as v from "valibot";

/** How many versions a check without a version gives back, unless `source.history` says otherwise. */
export const DEFAULT_HISTORY = 1000;

/** The form of an AWS region. */
export const REGION = /^[a-z\d]([a-z\d-]{0,61}[a-z\d])?$/i;

/** The attributes that mean something here, so that none of them can be the partition key. */
const OWN_ATTRIBUTES = ["created", "value", "put_id", "put_next", "put_build"];

const text = v.string(needs("a text in quotes is needed"));
const filled = v.pipe(text, v.minLength(1, "is empty"));
const storable = v.pipe(
  text,
  v.check((given) => given.isWellFormed(), "has half of a surrogate pair in it, which UTF-8 cannot hold"),
  v.check((given) => !given.includes("\0"), "has a NUL character in it, which Concourse cannot store"),
);
const secret = v.pipe(
  text,
  v.regex(/^[!-~]+$/, "is empty, or has white space or a non-ASCII character in it"),
);

const QUOTED = "a text in quotes is needed, since YAML reads 1.10 as 1.1 and yes as true";
const value = v.union(
  [storable, v.pipe(v.number(), v.safeInteger(needs(QUOTED)), v.transform(String))],
  needs(QUOTED),
);

const AT_LEAST_ONE = "a whole number of at least 1 is needed";
const count = v.union(
  [
    v.pipe(v.number(), v.safeInteger(AT_LEAST_ONE), v.minValue(1, AT_LEAST_ONE)),
    v.pipe(v.string(), v.regex(/^[1-9]\d{0,14}$/, AT_LEAST_ONE), v.transform(Number)),
  ],
  needs(AT_LEAST_ONE),
);

const flag = v.union(
  [
    v.boolean(),
    v.pipe(
      v.picklist(["true", "false"]),
      v.transform((given) => given === "true"),
    ),
  ],
  needs("true or false is needed"),
);

const roleArn = v.pipe(
  v.string(noRole),
  v.regex(/^arn:[\w-]+:iam::\d{12}:role\/[!-~]+$/, "is no ARN of a role"),
);

/** Of what a union has not taken, valibot tells only that. */
function noRole({ input }: { input: unknown }): string {
  if (Array.isArray(input)) return "has something in it that is no ARN of a role";
  return `${kindOf(input)}; the ARN of a role is needed, or a list of them`;
}

const sourceFields = {
  table_name: required(
    v.pipe(
      text,
      v.regex(
        /^([\w.-]{3,255}|arn:[!-~]+)$/,
        "is no name of a DynamoDB table (3 to 255 letters, digits, dots, dashes, underscores) and no ARN",
      ),
    ),
    "the table's name or ARN",
  ),
  partition_key: required(
    v.pipe(
      filled,
      v.maxBytes(255, "is longer than the 255 bytes that an attribute's name may have"),
      v.check(
        (name) => !OWN_ATTRIBUTES.includes(name),
        `is an attribute of the resource's own (${OWN_ATTRIBUTES.join(", ")})`,
      ),
    ),
    "the name of the table's partition-key attribute",
  ),
  key: required(
    v.pipe(
      storable,
      v.minLength(1, "is empty"),
      v.maxBytes(2048, "is longer than the 2048 bytes that a partition key may have"),
    ),
    "the value of the partition key",
  ),
  region: optional(
    v.pipe(text, v.regex(REGION, "is no AWS region, such as eu-west-1")),
    "the table's region; else AWS_REGION, AWS_DEFAULT_REGION, us-east-1",
  ),
  access_key: optional(secret, "an access key id; without it, AWS's default credential chain"),
  secret_key: optional(secret, "the access key's secret"),
  session_token: optional(secret, "the session token of temporary keys"),
  profile: optional(filled, "a profile of the shared AWS files; without it and a key, AWS's default chain"),
  role_arn: optional(
    v.union([roleArn, v.pipe(v.array(roleArn), v.minLength(1, "is an empty list"))], noRole),
    "a role to assume, or a list of roles to assume in turn",
  ),
  external_id: optional(
    v.pipe(text, v.regex(/^[\w+=,.@:/-]{2,1224}$/, "is no external id that STS takes")),
    "the external id for those roles",
  ),
  role_session_name: optional(
    v.pipe(
      text,
      v.regex(/^[\w+=,.@-]{2,64}$/, "is no session name that STS takes (2 to 64 of a-z, A-Z, 0-9, _+=,.@-)"),
    ),
    "the session's name; else the pipeline's and the job's in out, the resource's own in check",
  ),
  endpoint: optional(
    v.pipe(text, v.check(isEndpoint, "is no http or https URL, or has a user, query or fragment in it")),
    "the URL of a VPC endpoint, DynamoDB Local or any compatible engine",
  ),
  use_fips: optional(flag, "true: the region's FIPS endpoint"),
  use_dualstack: optional(flag, "true: the region's endpoint for IPv4 and IPv6"),
  initial_value: optional(value, "what check offers while the key has no item"),
  history: optional(count, `how many versions a check without a version gives back; else ${DEFAULT_HISTORY}`),
  ca_certs: optional(
    v.array(
      v.pipe(
        text,
        v.check(isCertificates, "is no PEM certificate; its lines have to be kept, as YAML does after |"),
      ),
      needs("a list of PEM texts is needed"),
    ),
    "a list of certificates (PEM) to trust besides the system's",
  ),
  keep: optional(count, "how many of the newest items a put leaves, besides those of the last hour"),
  debug: optional(flag, "true: tells on stderr what is asked of AWS and how long that takes"),
};

/** `source` of a resource: where its key is kept, how to get there, and what to offer from it. */
export const Source = v.pipe(
  v.object(sourceFields, needs("an object is needed")),
  v.forward(
    v.partialCheck(
      [["access_key"], ["secret_key"]],
      (source) => source.access_key == null || source.secret_key != null,
      "is missing; access_key is of no use without it",
    ),
    ["secret_key"],
  ),
  v.forward(
    v.partialCheck(
      [["access_key"], ["secret_key"]],
      (source) => source.secret_key == null || source.access_key != null,
      "is missing; secret_key is of no use without it",
    ),
    ["access_key"],
  ),
  v.forward(
    v.partialCheck(
      [["access_key"], ["secret_key"], ["session_token"]],
      (source) => source.session_token == null || source.access_key != null || source.secret_key != null,
      "is of no use without access_key and secret_key",
    ),
    ["session_token"],
  ),
);
export type Source = v.InferOutput<typeof Source>;

/** A version as Concourse keeps it: the same bytes each time for the same item. */
export const Version = v.object({ value: storable, created: storable }, needs("an object is needed"));
export type Version = v.InferOutput<typeof Version>;

const InParams = v.pipe(
  v.object(
    {
      file: optional(
        v.pipe(
          text,
          v.check(isPlainName, "is no plain name of a file, such as version.txt"),
          v.notValue(
            "version.json",
            "is the name of the file that holds the whole version; another name is needed",
          ),
        ),
        "the name of the file for the value; else version.txt",
      ),
      unpack: optional(
        flag,
        "true: writes the files that a put with directory has stored, instead of one file",
      ),
    },
    needs("an object is needed"),
  ),
  v.partialCheck(
    [["file"], ["unpack"]],
    ({ file, unpack }) => file == null || unpack !== true,
    "only one of file and unpack can be given",
  ),
);

const OutParams = v.pipe(
  v.object(
    {
      file: optional(
        v.pipe(filled, v.excludes("\0", "has a NUL character in it")),
        "the file under the sources directory whose text is the value",
      ),
      value: v.pipe(v.optional(value), v.description("the value itself, in quotes")),
      directory: optional(
        v.pipe(filled, v.excludes("\0", "has a NUL character in it")),
        "the folder whose files, content by name, are the value as one JSON object",
      ),
      web_identity_token: optional(secret, "a token with which source.role_arn is taken, without any key"),
      skip_unchanged: optional(flag, "put nothing when the newest value is already this one"),
    },
    needs("an object is needed"),
  ),
  v.partialCheck(
    [["file"], ["value"], ["directory"]],
    ({ file, value: given, directory }) => [file, given, directory].filter((one) => one != null).length <= 1,
    "only one of file, value and directory can say what to put",
  ),
);

/** What `check` reads. Its version may be a part of one, or another resource type's: only a text in `created` counts. */
export const CheckRequest = v.object(
  {
    source: Source,
    version: v.nullish(
      v.object({ created: v.fallback(v.optional(v.string()), undefined) }, needs("an object is needed")),
    ),
  },
  needs("a JSON object is needed"),
);
export type CheckRequest = v.InferOutput<typeof CheckRequest>;

/** What `in` reads. */
export const InRequest = v.object(
  { source: Source, version: Version, params: v.nullish(InParams, {}) },
  needs("a JSON object is needed"),
);
export type InRequest = v.InferOutput<typeof InRequest>;

/** What `out` reads. */
export const OutRequest = v.pipe(
  v.object({ source: Source, params: v.nullish(OutParams, {}) }, needs("a JSON object is needed")),
  v.forward(
    v.partialCheck(
      [["source", "role_arn"], ["params"]],
      ({ source, params }) => params.web_identity_token == null || source.role_arn != null,
      "is of no use without source.role_arn, the role that it is for",
    ),
    ["params", "web_identity_token"],
  ),
);
export type OutRequest = v.InferOutput<typeof OutRequest>;

/** The schema of one of the three requests. */
export type RequestSchema = typeof CheckRequest | typeof InRequest | typeof OutRequest;

/** Whether a name can be that of a file right in a folder. */
export function isPlainName(name: string): boolean {
  return /^(?!\.{1,2}$)[^/\0]+$/.test(name);
}

function required<Schema extends v.GenericSchema>(schema: Schema, description: string) {
  return v.pipe(schema, v.description(description));
}

function optional<Schema extends v.GenericSchema>(schema: Schema, description: string) {
  return v.pipe(v.nullish(schema), v.description(description));
}

function needs(sentence: string) {
  return ({ input }: { input: unknown }): string =>
    input === undefined ? "is missing" : `${kindOf(input)}; ${sentence}`;
}

function kindOf(given: unknown): string {
  if (given === null) return "is null";
  if (Array.isArray(given)) return "is a list";
  return typeof given === "string"
    ? "is a text"
    : `is ${typeof given === "object" ? "an" : "a"} ${typeof given}`;
}

function isEndpoint(given: string): boolean {
  const url = URL.parse(given);
  return (
    url !== null &&
    /^https?:$/.test(url.protocol) &&
    !url.username &&
    !url.password &&
    !url.search &&
    !url.hash
  );
}

function isCertificates(pem: string): boolean {
  const { X509Certificate } = process.getBuiltinModule("node:crypto");
  const certificates = pem.match(/^-----BEGIN CERTIFICATE-----$[^-]+^-----END CERTIFICATE-----$/gm) ?? [];
  try {
    return certificates.map((certificate) => new X509Certificate(certificate)).length > 0;
  } catch {
    return false;
  }
}
