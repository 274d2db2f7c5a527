import * as v from "valibot";
import { isEndpoint } from "./connection.ts";
import {
  count,
  filled,
  flag,
  isNot,
  kindOf,
  mustBe,
  optional,
  path,
  required,
  secret,
  storable,
  text,
  value,
} from "./fields.ts";

/** How many versions a check without a version gives back, unless `source.history` says otherwise. */
export const DEFAULT_HISTORY = 1000;

/** The form of an AWS region. */
export const REGION = /^[a-z\d]([a-z\d-]{0,61}[a-z\d])?$/i;

/** The attributes that mean something here, so that none of them can be the partition key. */
const OWN_ATTRIBUTES = ["created", "value", "put_id", "put_next", "put_build"];

const A_ROLE = "a valid role ARN (example: arn:aws:iam::123456789012:role/concourse)";
const roleArn = v.pipe(v.string(notRole), v.regex(/^arn:[\w-]+:iam::\d{12}:role\/[!-~]+$/, isNot(A_ROLE)));

/** Of what a union has not taken, valibot tells only that. */
function notRole({ input }: { input: unknown }): string {
  if (Array.isArray(input)) return `contains an element that is not ${A_ROLE}`;
  return `must be a role ARN or an array of them, got ${kindOf(input)}`;
}

const tableFields = {
  table_name: required(
    v.pipe(
      text,
      v.regex(
        /^([\w.-]{3,255}|arn:[\w-]+:dynamodb:[\w-]+:\d{12}:table\/[\w.-]{3,255})$/,
        isNot("a valid table name (3 to 255 letters, digits, dots, dashes, underscores) or table ARN"),
      ),
    ),
    "name or ARN of the table",
  ),
  partition_key: required(
    v.pipe(
      filled,
      v.maxBytes(255, "must not be longer than 255 bytes, DynamoDB's limit for an attribute's name"),
      v.check(
        (name) => !OWN_ATTRIBUTES.includes(name),
        `must not be an attribute that this resource uses itself (${OWN_ATTRIBUTES.join(", ")})`,
      ),
    ),
    "name of the table's partition-key attribute",
  ),
  key: required(
    v.pipe(
      storable,
      v.minLength(1, "must not be empty"),
      v.maxBytes(2048, "must not be longer than 2048 bytes, DynamoDB's limit for a partition key"),
    ),
    "value of the partition key",
  ),
  region: optional(
    v.pipe(text, v.regex(REGION, isNot("a valid AWS region (example: eu-west-1)"))),
    "the table's region; default: the table ARN's, AWS_REGION, …, us-east-1",
  ),
};

const credentialFields = {
  access_key: secret("access key ID; default: AWS's credential chain"),
  secret_key: secret("secret access key"),
  session_token: secret("session token of temporary keys"),
  profile: optional(filled, "profile in the shared AWS files"),
  role_arn: optional(
    v.union([roleArn, v.pipe(v.array(roleArn), v.minLength(1, "must not be an empty array"))], notRole),
    "role to assume, or an array of roles, each assumed with the one before",
  ),
  external_id: optional(
    v.pipe(
      text,
      v.regex(
        /^[\w+=,.@:/-]{2,1224}$/,
        isNot("a valid external ID (2 to 1224 characters of A-Za-z0-9_+=,.@:/-)"),
      ),
    ),
    "external ID for these roles",
  ),
  role_session_name: optional(
    v.pipe(text, v.regex(/^[\w+=,.@-]{2,64}$/, isNot("a valid session name (2 to 64 of A-Za-z0-9_+=,.@-)"))),
    "session name; default: pipeline and job (put), dynamo-keyval-resource (check)",
  ),
};

const networkFields = {
  endpoint: optional(
    v.pipe(
      text,
      v.check((given) => /^https?:\/\//.test(given), "must start with http:// or https://"),
      v.check(
        (given) => !/^https?:\/\//.test(given) || isEndpoint(given),
        "must be a URL without user, query and fragment",
      ),
    ),
    "URL of a VPC endpoint or a compatible engine",
  ),
  use_fips: optional(flag, "true: use the region's FIPS endpoints"),
  use_dualstack: optional(flag, "true: use the region's IPv4-and-IPv6 endpoints"),
  ca_certs: optional(
    v.array(
      v.pipe(text, v.check(isCertificates, "is not a PEM certificate; paste its text (YAML |), not a path")),
      mustBe("an array of PEM certificates"),
    ),
    "PEM certificates to trust besides the system's",
  ),
  debug: optional(flag, "true: log each AWS request to stderr"),
};

const historyFields = {
  initial_value: optional(value, "value of a key without versions, for check, bump, expect and get_latest"),
  history: optional(
    count,
    `most versions that a check without a version returns; default: ${DEFAULT_HISTORY}`,
  ),
  keep: optional(count, "how many of the newest versions to keep; older ones stay for an hour"),
};

/** The fields of `source` by what they are about. */
export const SOURCE_GROUPS = {
  table: tableFields,
  credentials: credentialFields,
  network: networkFields,
  history: historyFields,
};

/** `source` of a resource: where its key is kept, how to get there, and what to offer from it. */
export const Source = v.pipe(
  v.object({ ...tableFields, ...credentialFields, ...networkFields, ...historyFields }, mustBe("an object")),
  v.forward(
    v.partialCheck(
      [["access_key"], ["secret_key"]],
      (source) => source.access_key == null || source.secret_key != null,
      "is required with access_key",
    ),
    ["secret_key"],
  ),
  v.forward(
    v.partialCheck(
      [["access_key"], ["secret_key"]],
      (source) => source.secret_key == null || source.access_key != null,
      "is required with secret_key",
    ),
    ["access_key"],
  ),
  v.forward(
    v.partialCheck(
      [["table_name"], ["region"]],
      ({ table_name, region }) => region == null || (arnRegion(table_name) ?? region) === region,
      "contradicts the region in source.table_name's ARN",
    ),
    ["region"],
  ),
  v.forward(
    v.partialCheck(
      [["access_key"], ["secret_key"], ["session_token"]],
      (source) => source.session_token == null || source.access_key != null || source.secret_key != null,
      "requires access_key and secret_key",
    ),
    ["session_token"],
  ),
);
export type Source = v.InferOutput<typeof Source>;

/** A version as Concourse keeps it: the same bytes each time for the same item. */
export const Version = v.object({ value: storable, created: storable }, mustBe("an object"));
export type Version = v.InferOutput<typeof Version>;

const PRE = "a valid pre-release name (letters, digits and dashes, not digits alone; example: rc)";

/** What makes the version that follows one; null is refused, since an empty variable must not switch it off. */
const bumpFields = {
  bump: v.pipe(
    v.optional(
      v.picklist(
        ["major", "minor", "patch", "final", "number"],
        isNot("a valid bump (major, minor, patch, final or number)"),
      ),
    ),
    v.description("major, minor, patch, final or number"),
  ),
  pre: v.pipe(
    v.optional(v.pipe(text, v.regex(/^(?!\d+$)[\dA-Za-z-]+$/, isNot(PRE)))),
    v.description("name of a pre-release (example: rc, for 1.3.0-rc.1, 1.3.0-rc.2)"),
  ),
};

function isBumpOfPre({ bump, pre }: { bump?: string | undefined; pre?: string | undefined }): boolean {
  return pre === undefined || (bump !== "final" && bump !== "number");
}

const InParams = v.pipe(
  v.object(
    {
      file: optional(
        v.pipe(
          text,
          v.check(isPlainName, "must be a file name without a directory (example: version.txt)"),
          v.notValue("version.json", "must not be version.json, the file that holds the whole version"),
        ),
        "name of the value's file; default: version.txt",
      ),
      unpack: optional(flag, "true: write the files that a put with directory stored"),
      ...bumpFields,
    },
    mustBe("an object"),
  ),
  v.partialCheck(
    [["file"], ["unpack"]],
    ({ file, unpack }) => file == null || unpack !== true,
    "file cannot be used with unpack",
  ),
  v.partialCheck(
    [["bump"], ["pre"], ["unpack"]],
    ({ bump, pre, unpack }) => (bump ?? pre) === undefined || unpack !== true,
    "bump and pre cannot be used with unpack",
  ),
  v.forward(
    v.partialCheck([["bump"], ["pre"]], isBumpOfPre, "cannot be used with bump: final or bump: number"),
    ["pre"],
  ),
);

const OutParams = v.pipe(
  v.object(
    {
      file: optional(path, "file under the sources directory whose text is the value"),
      value: v.pipe(v.optional(value), v.description("the value itself, as a quoted string")),
      directory: optional(path, "directory whose files are the value, as one JSON object"),
      ...bumpFields,
      expect: v.pipe(
        v.optional(value),
        v.description("store the value only if the newest value is this one"),
      ),
      skip_unchanged: optional(flag, "true: store nothing if the newest value is the same"),
      get_latest: optional(flag, "true: store nothing; return the newest version"),
      web_identity_token: secret("OIDC token to assume source.role_arn with"),
    },
    mustBe("an object"),
  ),
  v.partialCheck(
    [["file"], ["value"], ["directory"], ["bump"], ["pre"]],
    ({ file, value: given, directory, bump, pre }) =>
      [file, given, directory, bump ?? pre].filter((one) => one != null).length <= 1,
    "only one of file, value, directory and bump (with pre) can be used",
  ),
  v.forward(
    v.partialCheck([["bump"], ["pre"]], isBumpOfPre, "cannot be used with bump: final or bump: number"),
    ["pre"],
  ),
  v.forward(
    v.partialCheck(
      [["bump"], ["pre"], ["skip_unchanged"]],
      ({ bump, pre, skip_unchanged }) => (bump ?? pre) === undefined || skip_unchanged !== true,
      "cannot be used with bump or pre",
    ),
    ["skip_unchanged"],
  ),
  v.forward(
    v.partialCheck(
      [["get_latest"], ["file"], ["value"], ["directory"], ["bump"], ["pre"], ["expect"], ["skip_unchanged"]],
      ({ get_latest, ...others }) =>
        get_latest !== true ||
        ([others.file, others.value, others.directory, others.bump, others.pre, others.expect].every(
          (one) => one == null,
        ) &&
          others.skip_unchanged !== true),
      "cannot be used with any other param except web_identity_token",
    ),
    ["get_latest"],
  ),
);

/** What `check` reads. Its version may be a part of one, or another resource type's: only a text in `created` counts. */
export const CheckRequest = v.object(
  {
    source: Source,
    version: v.nullish(
      v.object({ created: v.fallback(v.optional(v.string()), undefined) }, mustBe("an object")),
    ),
  },
  mustBe("a JSON object"),
);
export type CheckRequest = v.InferOutput<typeof CheckRequest>;

/** What `in` reads. */
export const InRequest = v.object(
  { source: Source, version: Version, params: v.nullish(InParams, {}) },
  mustBe("a JSON object"),
);
export type InRequest = v.InferOutput<typeof InRequest>;

/** What `out` reads. */
export const OutRequest = v.pipe(
  v.object({ source: Source, params: v.nullish(OutParams, {}) }, mustBe("a JSON object")),
  v.forward(
    v.partialCheck(
      [["source", "role_arn"], ["params"]],
      ({ source, params }) => params.web_identity_token == null || source.role_arn != null,
      "requires source.role_arn, the role to assume with it",
    ),
    ["params", "web_identity_token"],
  ),
);
export type OutRequest = v.InferOutput<typeof OutRequest>;

/** The schema of one of the three requests. */
export type RequestSchema = typeof CheckRequest | typeof InRequest | typeof OutRequest;

/** Whether a name can be that of a file directly in a folder. */
export function isPlainName(name: string): boolean {
  return /^(?!\.{1,2}$)[^/\0]+$/.test(name);
}

/** The region in the ARN of a table; undefined for a name. */
export function arnRegion(table: string): string | undefined {
  return table.startsWith("arn:") ? table.split(":")[3] : undefined;
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
