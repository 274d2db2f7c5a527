import type { Connection } from "./connection.ts";
import { REGION, type Source, type Version } from "./schema.ts";

const DEFAULT_REGION = "us-east-1";
const SHOWN_BYTES = 1024;

/** A name (one word) and a value that Concourse shows beside a version. */
export interface Metadata {
  name: string;
  value: string;
}

/** What a step knows of its connection besides the source. */
export interface Caller {
  /** The name of the session when a role is assumed, where the source has none. */
  sessionName?: string | undefined;
  webIdentityToken?: string | null | undefined;
  debug: (message: string) => void;
  warn: (message: string) => void;
}

/** How to reach the table that a source names; the region's defaults are in the environment. */
export function connectionOf(
  source: Source,
  { sessionName, webIdentityToken, debug, warn }: Caller,
): Connection {
  return {
    tableName: source.table_name,
    partitionKey: source.partition_key,
    key: source.key,
    region: source.region ?? regionOfEnvironment(),
    endpoint: source.endpoint ?? undefined,
    accessKey: source.access_key ?? undefined,
    secretKey: source.secret_key ?? undefined,
    sessionToken: source.session_token ?? undefined,
    profile: source.profile ?? undefined,
    roleArns: [source.role_arn ?? []].flat(),
    roleSessionName: source.role_session_name ?? sessionName ?? "dynamo-keyval-resource",
    externalId: source.external_id ?? undefined,
    webIdentityToken: webIdentityToken ?? undefined,
    useFips: source.use_fips ?? false,
    useDualstack: source.use_dualstack ?? false,
    caCerts: source.ca_certs ?? undefined,
    debug: source.debug ? debug : undefined,
    warn,
  };
}

function regionOfEnvironment(): string {
  const name = process.env.AWS_REGION ? "AWS_REGION" : "AWS_DEFAULT_REGION";
  const region = process.env[name] || DEFAULT_REGION;
  if (!REGION.test(region))
    throw new Error(`${name} is no AWS region, such as eu-west-1; source.region has precedence`);
  return region;
}

/** What Concourse shows beside a version: of the value the first KB, its whole size in bytes, and where it is kept. */
export function metadataOf(
  { table_name, key }: Source,
  version: Version,
  region?: string | null,
): Metadata[] {
  const bytes = new TextEncoder().encode(version.value);
  // As a stream, the decoder keeps to itself a character that the cut has halved.
  const start = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(0, SHOWN_BYTES), {
    stream: true,
  });
  return [
    { name: "key", value: key },
    { name: "value", value: start },
    { name: "created", value: version.created },
    { name: "size", value: String(bytes.length) },
    { name: "table", value: table_name },
    ...(region ? [{ name: "region", value: region }] : []),
  ];
}
