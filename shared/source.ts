import type { Connection } from "./connection.ts";
import { arnRegion, isEndpoint, REGION, type Source } from "./schema.ts";

const DEFAULT_REGION = "us-east-1";

/** What a step knows of its connection besides the source. */
export interface Caller {
  /** The name of the session when a role is assumed, where the source has none. */
  sessionName?: string | undefined;
  webIdentityToken?: string | null | undefined;
  debug: (message: string) => void;
  warn: (message: string) => void;
}

/** How to reach the table that a source names: what it leaves out is in the environment. Throws an Error in the user's words. */
export async function connectionOf(source: Source, caller: Caller): Promise<Connection> {
  const { sessionName, webIdentityToken, debug, warn } = caller;
  const endpoint = source.endpoint ?? endpointOfEnvironment();
  const connection = {
    tableName: source.table_name,
    partitionKey: source.partition_key,
    key: source.key,
    region: await regionOf(source, webIdentityToken != null),
    endpoint,
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
  if (endpoint) requireUse(connection, warn);
  return connection;
}

/** Beside an endpoint, FIPS and dual stack are for STS alone, so that they are a mistake where STS is not asked. */
function requireUse({ accessKey, roleArns, useFips, useDualstack }: Connection, warn: Caller["warn"]): void {
  for (const [field, isUsed] of Object.entries({ use_fips: useFips, use_dualstack: useDualstack })) {
    if (!isUsed) continue;
    if (accessKey && roleArns.length === 0)
      throw new Error(`source.${field} cannot be used with an endpoint`);
    warn(`source.${field} applies to STS only: DynamoDB is reached at the configured endpoint`);
  }
}

function endpointOfEnvironment(): string | undefined {
  const name = ["AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL"].find((one) => process.env[one]);
  if (name === undefined) return undefined;
  const endpoint = process.env[name] ?? "";
  if (isEndpoint(endpoint)) return endpoint;
  throw new Error(
    `${name} is not a valid endpoint: it must be an http:// or https:// URL without user, query and fragment`,
  );
}

async function regionOf(source: Source, hasToken: boolean): Promise<string> {
  const given = source.region ?? arnRegion(source.table_name);
  if (given) return given;
  const name = process.env.AWS_REGION ? "AWS_REGION" : "AWS_DEFAULT_REGION";
  const ofEnvironment = process.env[name];
  if (ofEnvironment && !REGION.test(ofEnvironment)) {
    throw new Error(
      `${name}: ${JSON.stringify(ofEnvironment)} is not a valid AWS region (example: eu-west-1)`,
    );
  }
  if (ofEnvironment) return ofEnvironment;
  // Where the source gives the credentials, no shared file is opened.
  if (source.access_key || hasToken) return DEFAULT_REGION;
  const { profileRegion } = await import("./credentials.ts");
  return (await profileRegion(source.profile ?? undefined)) ?? DEFAULT_REGION;
}
