import {
  fromHttp,
  fromIni,
  fromInstanceMetadata,
  fromTemporaryCredentials,
  fromWebToken,
} from "@aws-sdk/credential-providers";
import { loadSharedConfigFiles } from "@smithy/core/config";
import { readFile } from "node:fs/promises";
import { type Connection, type Credentials, givenCredentials } from "./connection.ts";
import { reasonOf } from "./errors.ts";
import { askUntil, clientConfigOf, credentialsError, orStsFailure, type Provider, type Sts } from "./sts.ts";

/** How long an answer of a container's or an instance's source of credentials may take, in ms. */
const MOST_MS = 15_000;

/** What makes credentials of a profile of the shared AWS files. */
const PROFILE_FIELDS =
  /^(aws_access_key_id|aws_secret_access_key|role_arn|credential_process|sso_session|sso_start_url|web_identity_token_file|login_session)$/;

const NONE =
  "no AWS credentials found: set source.access_key and source.secret_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or AWS_WEB_IDENTITY_TOKEN_FILE with AWS_ROLE_ARN, or give the worker a role";

/**
 * The credentials that a connection asks for, in AWS's order: its web identity token, its keys, its profile, the
 * environment's keys, the shared files, the environment's web identity, a container, an instance; and then its roles,
 * assumed in turn. `requestHandler` carries the requests to STS. Throws an Error of the name CredentialsError, in the
 * user's words; a source that is set and fails is not passed over.
 */
export async function credentialsOf(
  connection: Connection,
  requestHandler: object,
  endsAt = Infinity,
): Promise<Credentials> {
  const { warn } = console;
  // Parts of the chain warn there of what the one line at the end tells.
  console.warn = () => {};
  // Containers and SSO are asked over node:https, which would leave their certificates unverified for it.
  delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
  try {
    return await assumeRoles(connection, {
      clientConfig: clientConfigOf(connection, requestHandler),
      endsAt,
    });
  } finally {
    console.warn = warn;
  }
}

/** The name of the profile of the shared AWS files that counts: the one given, AWS_PROFILE or `default`. */
export function profileName(given?: string): string {
  return given ?? (process.env.AWS_PROFILE || "default");
}

/** The region of a profile of the shared AWS files; undefined where it has none. */
export async function profileRegion(name: string): Promise<string | undefined> {
  const { configFile, credentialsFile } = await loadSharedConfigFiles();
  return credentialsFile[name]?.region ?? configFile[name]?.region;
}

async function assumeRoles(connection: Connection, sts: Sts): Promise<Credentials> {
  const { roleArns, roleSessionName, externalId, webIdentityToken } = connection;
  const [first, ...others] = roleArns;
  const hidden = (given: Credentials): Credentials => {
    const { accessKeyId, secretAccessKey, sessionToken } = given;
    for (const secret of [accessKeyId, secretAccessKey, sessionToken]) connection.hideSecret?.(secret);
    return given;
  };
  const isByToken = webIdentityToken !== undefined && first !== undefined;
  let credentials = hidden(
    isByToken
      ? await byToken("params.web_identity_token", webIdentityToken, first, { roleSessionName, sts })
      : (givenCredentials(connection) ?? (await found(connection, sts))),
  );
  // Else what assumes a role looks for the region in the shared AWS files, although it has one.
  process.env.AWS_REGION = connection.region;
  for (const RoleArn of isByToken ? others : roleArns) {
    const params = {
      RoleArn,
      RoleSessionName: roleSessionName,
      ...(externalId && { ExternalId: externalId }),
    };
    const { clientConfig } = sts;
    const provider = fromTemporaryCredentials({ masterCredentials: credentials, params, clientConfig });
    credentials = hidden(
      await orStsFailure(
        provider,
        `the role ${RoleArn} cannot be assumed; check its trust policy and source.external_id`,
        sts.endsAt,
      ),
    );
  }
  return credentials;
}

/** The credentials of the first source that is set; each that is set must give them. */
async function found({ profile, hideSecret }: Connection, sts: Sts): Promise<Credentials> {
  const { env } = process;
  if (profile) return byProfile(`source.profile`, profile, sts);
  const keys = environmentKeys();
  if (keys) return keys;
  if (env.AWS_PROFILE || (await hasCredentials("default"))) {
    const name = env.AWS_PROFILE || "default";
    const isOnlyNamed =
      env.AWS_PROFILE !== undefined && (await hasProfile(name)) && !(await hasCredentials(name));
    if (!isOnlyNamed) {
      return byProfile(env.AWS_PROFILE ? "AWS_PROFILE" : "the default AWS profile", name, sts);
    }
  }
  if (env.AWS_WEB_IDENTITY_TOKEN_FILE) return byTokenFile(env.AWS_WEB_IDENTITY_TOKEN_FILE, sts, hideSecret);
  for (const variable of ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"]) {
    if (env[variable])
      return orFailure(async () => fromHttp({ timeout: MOST_MS, maxRetries: 0 })(), variable);
  }
  if (env.AWS_EC2_METADATA_DISABLED === "true") throw credentialsError(NONE);
  try {
    return await withinTime(fromInstanceMetadata({ timeout: 1000, maxRetries: 1 })());
  } catch (cause) {
    throw credentialsError(NONE, cause);
  }
}

function environmentKeys(): Credentials | undefined {
  const { AWS_ACCESS_KEY_ID: id, AWS_SECRET_ACCESS_KEY: secret, AWS_SESSION_TOKEN: token } = process.env;
  if (!id && !secret) return undefined;
  if (!id)
    throw credentialsError("AWS_SECRET_ACCESS_KEY is set, but AWS_ACCESS_KEY_ID is not; set both or neither");
  if (!secret)
    throw credentialsError("AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not; set both or neither");
  for (const [name, value] of Object.entries({
    AWS_ACCESS_KEY_ID: id,
    AWS_SECRET_ACCESS_KEY: secret,
    AWS_SESSION_TOKEN: token,
  })) {
    if (value && !/^[!-~]+$/.test(value)) {
      throw credentialsError(`${name} contains white space or a non-ASCII character (a newline at its end?)`);
    }
  }
  return { accessKeyId: id, secretAccessKey: secret, ...(token && { sessionToken: token }) };
}

async function hasProfile(name: string): Promise<boolean> {
  const { configFile, credentialsFile } = await loadSharedConfigFiles();
  return name in configFile || name in credentialsFile;
}

async function hasCredentials(name: string): Promise<boolean> {
  const { configFile, credentialsFile } = await loadSharedConfigFiles();
  return Object.keys({ ...configFile[name], ...credentialsFile[name] }).some((field) =>
    PROFILE_FIELDS.test(field),
  );
}

async function byProfile(source: string, profile: string, sts: Sts): Promise<Credentials> {
  const title = source.includes(" ") ? source : `${source}: the profile ${JSON.stringify(profile)}`;
  if (!(await hasProfile(profile))) {
    throw credentialsError(`${title} was not found in the shared AWS files`);
  }
  if (!(await hasCredentials(profile))) throw credentialsError(`${title} has no credentials`);
  const { clientConfig, endsAt } = sts;
  const provider = () => withinTime(fromIni({ profile, clientConfig })());
  return askUntil(provider, endsAt, (cause) => noCredentials(title, cause));
}

async function byTokenFile(
  file: string,
  sts: Sts,
  hideSecret: Connection["hideSecret"],
): Promise<Credentials> {
  const { AWS_ROLE_ARN: roleArn, AWS_ROLE_SESSION_NAME } = process.env;
  if (!roleArn)
    throw credentialsError(
      "AWS_WEB_IDENTITY_TOKEN_FILE is set, but AWS_ROLE_ARN is not; set both or neither",
    );
  const token = await readFile(file, "utf8").catch((cause: unknown) => {
    throw credentialsError(`AWS_WEB_IDENTITY_TOKEN_FILE: ${reasonOf(cause)}`, cause);
  });
  hideSecret?.(token.trim());
  const roleSessionName = AWS_ROLE_SESSION_NAME || "dynamo-keyval-resource";
  return byToken("the token in AWS_WEB_IDENTITY_TOKEN_FILE", token.trim(), roleArn, {
    roleSessionName,
    sts,
  });
}

async function byToken(
  source: string,
  webIdentityToken: string,
  roleArn: string,
  { roleSessionName, sts }: { roleSessionName: string; sts: Sts },
): Promise<Credentials> {
  try {
    return await orStsFailure(
      fromWebToken({ roleArn, webIdentityToken, roleSessionName, clientConfig: sts.clientConfig }),
      `${source} cannot assume the role ${roleArn}; check its trust policy`,
      sts.endsAt,
    );
  } catch (error) {
    const { cause } = Object(error);
    const { name = "", message = "" } = Object(cause);
    if (!/Expired/.test(name) && !/expired/i.test(message)) throw error;
    throw credentialsError(
      `STS rejected ${source}: it has expired; ${source.startsWith("params.") ? "fetch a new token for each put" : "write a new one to the file"}`,
      cause,
    );
  }
}

/** What a source of credentials that is set fails with is told under its name. */
async function orFailure(provider: Provider, source: string): Promise<Credentials> {
  try {
    return await withinTime(provider());
  } catch (cause) {
    throw noCredentials(source, cause);
  }
}

function noCredentials(source: string, cause: unknown): Error {
  return credentialsError(`${source} returned no credentials: ${reasonOf(cause)}`, cause);
}

async function withinTime(credentials: Promise<Credentials>): Promise<Credentials> {
  const over = AbortSignal.timeout(MOST_MS);
  const timeout = new Promise<never>((_, reject) => {
    over.addEventListener("abort", () => reject(new Error(`no answer within ${MOST_MS / 1000} s`)));
  });
  return Promise.race([credentials, timeout]);
}
