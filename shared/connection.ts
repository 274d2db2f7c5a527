/** A table, one key of it, and how to reach it. */
export interface Connection {
  tableName: string;
  partitionKey: string;
  key: string;
  region: string;
  endpoint?: string | undefined;
  accessKey?: string | undefined;
  secretKey?: string | undefined;
  sessionToken?: string | undefined;
  /** A profile of the shared AWS files; without it and a key, AWS's default chain gives the credentials. */
  profile?: string | undefined;
  /** Roles to assume in turn, with what was given before. */
  roleArns: string[];
  roleSessionName: string;
  externalId?: string | undefined;
  /** A token with which the first role is taken. */
  webIdentityToken?: string | undefined;
  useFips: boolean;
  useDualstack: boolean;
  /** PEM texts, trusted besides the system's and the bundled roots. */
  caCerts?: string[] | undefined;
  /** Is told of each attempt of a request: where it went, what came back and how long it took. */
  debug?: ((message: string) => void) | undefined;
  /** Is told of what is wrong and does not fail a request. */
  warn?: ((message: string) => void) | undefined;
  /** Is given each key and token that is found or received, so that no message shows it. */
  hideSecret?: ((secret: string | undefined) => void) | undefined;
}

/** An access key, and when it ends. */
export interface Credentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string;
  expiration?: Date;
}

/** The keys that a connection is given; undefined where it is given none. */
export function givenCredentials({
  accessKey,
  secretKey,
  sessionToken,
}: Connection): Credentials | undefined {
  if (!accessKey || !secretKey) return undefined;
  return { accessKeyId: accessKey, secretAccessKey: secretKey, ...(sessionToken && { sessionToken }) };
}

/** Whether a text is an http or https URL without user, query and fragment. */
export function isEndpoint(given: string): boolean {
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

/** The endpoint in the first of these environment variables that is set; undefined where none is. Throws an Error in the user's words. */
export function endpointIn(...variables: string[]): string | undefined {
  const name = variables.find((one) => process.env[one]);
  if (name === undefined) return undefined;
  const endpoint = process.env[name] ?? "";
  if (isEndpoint(endpoint)) return endpoint;
  throw new Error(
    `${name} is not a valid endpoint: it must be an http:// or https:// URL without user, query and fragment`,
  );
}
