import { createHash, createHmac } from "node:crypto";

/** What was asked of STS, and by whom: the access key whose signature was right, or none. */
export interface AskedOfSts {
  parameters: Record<string, string>;
  signedBy: string | undefined;
  region: string | undefined;
}

/** A stand-in for STS that hands out an access key for each role, and knows what it has handed out. */
export interface Sts extends Disposable {
  endpoint: string;
  asked: AskedOfSts[];
}

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");
const hmac = (key: string | Buffer, text: string) => createHmac("sha256", key).update(text).digest();

/** Starts the stand-in; it knows these access keys with their secrets, and refuses a role whose name has "refused" in it. */
export function startSts(keys: Record<string, string>): Sts {
  const secrets = new Map(Object.entries(keys));
  const asked: AskedOfSts[] = [];
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: async (request) => {
      const body = await request.text();
      const parameters = Object.fromEntries(new URLSearchParams(body));
      const { Action = "", RoleArn = "" } = parameters;
      asked.push({ parameters, ...signerOf(request, body, secrets) });
      if (RoleArn.includes("refused")) {
        const error = `<Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not authorized to perform: sts:${Action}</Message></Error>`;
        return new Response(`<ErrorResponse>${error}<RequestId>1</RequestId></ErrorResponse>`, {
          status: 403,
        });
      }
      const id = `ASIA${asked.length}${RoleArn.split("/").at(-1)}`;
      secrets.set(id, `secret-of-${id}`);
      const credentials = `<Credentials><AccessKeyId>${id}</AccessKeyId><SecretAccessKey>secret-of-${id}</SecretAccessKey><SessionToken>token-of-${id}</SessionToken><Expiration>${new Date(Date.now() + 3_600_000).toISOString()}</Expiration></Credentials>`;
      const user = `<AssumedRoleUser><Arn>${RoleArn}</Arn><AssumedRoleId>A:b</AssumedRoleId></AssumedRoleUser>`;
      const result = `<${Action}Result>${credentials}${user}</${Action}Result>`;
      return new Response(
        `<${Action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">${result}</${Action}Response>`,
        {
          headers: { "content-type": "text/xml" },
        },
      );
    },
  });
  return { endpoint: server.url.origin, asked, [Symbol.dispose]: () => void server.stop(true) };
}

/** Computes the signature (AWS Signature Version 4) anew and compares. */
function signerOf(
  request: Request,
  body: string,
  secrets: Map<string, string>,
): Pick<AskedOfSts, "signedBy" | "region"> {
  const match =
    /Credential=([^/]+)\/(\d+)\/([^/]+)\/sts\/aws4_request, SignedHeaders=([^,]+), Signature=(\w+)/.exec(
      request.headers.get("authorization") ?? "",
    );
  if (match === null) return { signedBy: undefined, region: undefined };
  const [, id = "", day = "", region = "", signed = "", signature] = match;
  const headers = signed.split(";").map((name) => `${name}:${request.headers.get(name)?.trim()}\n`);
  const canonical = ["POST", "/", "", headers.join(""), signed, sha256(body)].join("\n");
  const scope = `${day}/${region}/sts/aws4_request`;
  const text = ["AWS4-HMAC-SHA256", request.headers.get("x-amz-date"), scope, sha256(canonical)].join("\n");
  const key = [day, region, "sts", "aws4_request"].reduce<string | Buffer>(
    (so, part) => hmac(so, part),
    `AWS4${secrets.get(id)}`,
  );
  return { signedBy: hmac(key, text).toString("hex") === signature ? id : undefined, region };
}
