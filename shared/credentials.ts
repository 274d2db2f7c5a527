import { fromNodeProviderChain, fromTemporaryCredentials, fromWebToken } from "@aws-sdk/credential-providers";
import { type Connection, type Credentials, givenCredentials } from "./connection.ts";

type Provider = () => Promise<Credentials>;

const MOST_MS = 15_000;

/**
 * The credentials that a connection asks for: its keys, its web identity or AWS's default chain (environment, shared
 * files, web identity file, container, instance), and then its roles, assumed in turn. `requestHandler` carries the
 * requests to STS. Throws an Error of the name CredentialsError, in the user's words, after 15 s at the latest.
 */
export async function credentialsOf(connection: Connection, requestHandler: object): Promise<Credentials> {
  const { warn } = console;
  // Parts of the chain warn there of what the one line at the end tells.
  console.warn = ignore;
  try {
    return await Promise.race([assumeRoles(connection, requestHandler), late()]);
  } finally {
    console.warn = warn;
  }
}

async function assumeRoles(connection: Connection, requestHandler: object): Promise<Credentials> {
  const { region, roleArns, roleSessionName, externalId, webIdentityToken, profile } = connection;
  const logger = { debug: ignore, info: ignore, warn: ignore, error: ignore };
  const clientConfig = { region, requestHandler, logger };
  const [first, ...others] = roleArns;
  let credentials: Credentials;
  let roles = roleArns;
  if (webIdentityToken !== undefined && first !== undefined) {
    const provider = fromWebToken({ roleArn: first, roleSessionName, webIdentityToken, clientConfig });
    credentials = await orTell(
      provider,
      `the web identity cannot take the role ${first}; check its trust policy`,
    );
    roles = others;
  } else {
    const chain = fromNodeProviderChain({ logger, clientConfig, ...(profile && { profile }) });
    const nowhere = profile
      ? `no AWS credentials are found in the profile ${profile}`
      : "no AWS credentials are found; give source.access_key and source.secret_key, or the worker a role";
    credentials = givenCredentials(connection) ?? (await orTell(chain, nowhere));
  }
  for (const RoleArn of roles) {
    const params = {
      RoleArn,
      RoleSessionName: roleSessionName,
      ...(externalId && { ExternalId: externalId }),
    };
    const provider = fromTemporaryCredentials({ masterCredentials: credentials, params, clientConfig });
    credentials = await orTell(
      provider,
      `the role ${RoleArn} cannot be assumed; check its trust policy and source.external_id`,
    );
  }
  return credentials;
}

async function orTell(provider: Provider, sentence: string): Promise<Credentials> {
  try {
    return await provider();
  } catch (cause) {
    const { name, message, $metadata } = Object(cause);
    // What STS says is worth telling; what the providers say of each other is not.
    throw credentialsError($metadata ? `${sentence} (STS says: ${name}: ${message})` : sentence, cause);
  }
}

async function late(): Promise<never> {
  await new Promise((over) => AbortSignal.timeout(MOST_MS).addEventListener("abort", over));
  throw credentialsError(
    `no AWS credentials are found within ${MOST_MS / 1000} s; give source.access_key and source.secret_key, or the worker a role`,
  );
}

function credentialsError(message: string, cause?: unknown): Error {
  return Object.assign(new Error(message, { cause }), { name: "CredentialsError" });
}

function ignore(): void {}
