import { againAfter, MOST_ATTEMPTS, pauseAfter } from "./again.ts";
import { type Connection, type Credentials, endpointIn } from "./connection.ts";
import { networkFailure, times } from "./errors.ts";

/** What gives credentials, as the SDK has it. */
export type Provider = () => Promise<Credentials>;

/** What ends too late for its failure to be told does not begin. */
const LEAST_MS = 1000;

/** How STS is asked. */
export interface Sts {
  clientConfig: object;
  /** Until when, on `performance.now()`'s clock. */
  endsAt: number;
}

/** The settings of a client of STS; one that is left out would be looked for in the shared AWS files. */
export function clientConfigOf(
  { region, useFips, useDualstack }: Connection,
  requestHandler: object,
): object {
  const endpoint = stsEndpoint();
  return {
    region,
    requestHandler,
    logger: { debug() {}, info() {}, warn() {}, error() {} },
    maxAttempts: 1,
    retryMode: "standard",
    useFipsEndpoint: useFips && !endpoint,
    useDualstackEndpoint: useDualstack && !endpoint,
    defaultsMode: "standard",
    authSchemePreference: [],
    userAgentAppId: "",
    disableClockSkewCorrection: false,
    ...(endpoint ? { endpoint } : { ignoreConfiguredEndpointUrls: true }),
  };
}

function stsEndpoint(): string | undefined {
  try {
    return endpointIn("AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL");
  } catch (cause) {
    throw credentialsError(Object(cause).message, cause);
  }
}

/**
 * Asks for credentials until they come, as often as DynamoDB is asked. Throws what `told` makes of the last failure and
 * of the number of attempts.
 */
export async function askUntil(
  provider: Provider,
  endsAt: number,
  told: (cause: unknown, attempts: number) => Error,
  isBrokenBy: (cause: unknown) => boolean = () => false,
): Promise<Credentials> {
  let broken = 0;
  let cause: unknown;
  for (let attempts = 1; ; attempts++) {
    const isLate = () => endsAt - performance.now() < LEAST_MS;
    try {
      return await provider();
    } catch (error) {
      // What ended an attempt early says less than what became of those before it.
      const isCut = attempts > 1 && Object(error).name === "TimeoutError" && isLate();
      if (!isCut) cause = error;
    }
    const again = againAfter(cause);
    const isBroken = again === "four times" || (again === "never" && isBrokenBy(cause));
    if (isBroken) broken++;
    if (broken === MOST_ATTEMPTS || isLate() || (again === "never" && !isBroken)) throw told(cause, attempts);
    await pauseAfter(attempts, endsAt - LEAST_MS);
  }
}

/** What STS refuses is told after `sentence`; that it cannot be reached, is silent or throttles is no matter of a policy. */
export async function orStsFailure(
  provider: Provider,
  sentence: string,
  endsAt: number,
): Promise<Credentials> {
  return askUntil(provider, endsAt, (cause, attempts) => stsFailure(cause, sentence, attempts), isStrange);
}

/** Whether an answer was none of STS's. */
function isStrange(error: unknown): boolean {
  const { $fault, name } = Object(error);
  return networkFailure(error, "") === undefined && ($fault === undefined || name === "Unknown");
}

function stsFailure(cause: unknown, sentence: string, attempts: number): Error {
  const endpoint = stsEndpoint();
  const asked = endpoint === undefined ? "STS" : new URL(endpoint).host;
  const { name, message, host = asked, $metadata: { httpStatusCode: status = 200 } = {} } = Object(cause);
  const network = networkFailure(cause, host, attempts, endpoint);
  const told = times(attempts);
  if (network) {
    return credentialsError(
      `${network} while assuming a role at STS; check the network and the proxy settings`,
      cause,
    );
  }
  if (/^Throttl|^RequestLimitExceeded$/.test(name) || status >= 500) {
    return credentialsError(`STS failed or throttled (${name}, HTTP ${status}, ${told}); try again`, cause);
  }
  if (isStrange(cause)) {
    return credentialsError(
      `${host} did not answer like STS (HTTP ${status}, ${told}); check the network and the proxy settings`,
      cause,
    );
  }
  return credentialsError(`${sentence} (STS: ${name}: ${message})`, cause);
}

/** A failure to get credentials, in the user's words. */
export function credentialsError(message: string, cause?: unknown): Error {
  return Object.assign(new Error(message, { cause }), { name: "CredentialsError" });
}
