import { defaultProvider } from "@aws-sdk/credential-provider-node";

/** An access key, and when it ends. */
export interface Credentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string;
  expiration?: Date;
}

const MOST_MS = 10_000;

/**
 * The credentials of AWS's default chain: environment, shared files, web identity, container, instance. Throws an
 * Error when there are none or none came within 10 s; `requestHandler` is that of the chain's own AWS clients.
 */
export async function defaultCredentials(region: string, requestHandler: object): Promise<Credentials> {
  const ignore = () => {};
  const silent = { debug: ignore, info: ignore, warn: ignore, error: ignore };
  const { warn } = console;
  // Parts of the chain warn there of what the one line at the end tells.
  console.warn = ignore;
  try {
    const clientConfig = { region, requestHandler, logger: silent };
    return await Promise.race([defaultProvider({ logger: silent, clientConfig })(), late()]);
  } finally {
    console.warn = warn;
  }
}

async function late(): Promise<never> {
  await new Promise((over) => AbortSignal.timeout(MOST_MS).addEventListener("abort", over));
  throw Object.assign(new Error(`none came within ${MOST_MS / 1000} s`), {
    name: "CredentialsProviderError",
  });
}
