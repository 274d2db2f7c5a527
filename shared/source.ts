import { type Connection, endpointIn } from "./connection.ts";
import { arnRegion, REGION, type Source } from "./schema.ts";

const DEFAULT_REGION = "us-east-1";

/** What a step knows of its connection besides the source. */
export interface Caller {
  /** The name of the session when a role is assumed, where the source has none. */
  sessionName?: string | undefined;
  webIdentityToken?: string | null | undefined;
  debug: (message: string) => void;
  warn: (message: string) => void;
  hideSecret: (secret: string | undefined) => void;
}

/** How to reach the table that a source names: what it leaves out is in the environment. Throws an Error in the user's words. */
export async function connectionOf(source: Source, caller: Caller): Promise<Connection> {
  const { sessionName, webIdentityToken, debug, warn, hideSecret } = caller;
  const endpoint = source.endpoint ?? endpointIn("AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL");
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
    hideSecret,
  };
  if (endpoint) requireUse(connection, warn);
  return connection;
}

/** Beside an endpoint, FIPS and dual stack are for STS alone, so that they are a mistake where STS is not asked. */
function requireUse({ accessKey, roleArns, useFips, useDualstack }: Connection, warn: Caller["warn"]): void {
  const used = Object.entries({ use_fips: useFips, use_dualstack: useDualstack }).filter(
    ([, isUsed]) => isUsed,
  );
  if (used.length > 0 && accessKey && roleArns.length === 0) {
    throw new AggregateError(
      used.map(([field]) => new Error(`source.${field} cannot be used with an endpoint`)),
    );
  }
  for (const [field] of used) {
    warn(`source.${field} applies to STS only: DynamoDB is reached at the configured endpoint`);
  }
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
  const { profileName, profileRegion } = await import("./credentials.ts");
  const profile = profileName(source.profile ?? undefined);
  const ofProfile = await profileRegion(profile);
  if (ofProfile && !REGION.test(ofProfile)) {
    throw new Error(
      `the AWS profile ${JSON.stringify(profile)}: ${JSON.stringify(ofProfile)} is not a valid AWS region (example: eu-west-1)`,
    );
  }
  return ofProfile || DEFAULT_REGION;
}
