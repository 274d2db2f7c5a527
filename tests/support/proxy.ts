/** What a proxy knows of a request: the operation, such as Query, the body, and who sent it. */
export interface Asked {
  operation: string;
  body: Record<string, unknown>;
  authorization: string;
  token: string | null;
  headers: Record<string, string>;
}

/** A stand-in for the engine's endpoint that keeps a list of what was asked. */
export interface Proxy extends AsyncDisposable {
  endpoint: string;
  asked: Asked[];
}

/** Stands between a binary and the DynamoDB at an endpoint: `answer` may answer in its place, or let a request pass with undefined. */
export function startProxy(
  endpoint: string,
  answer: (asked: Asked) => Response | undefined | Promise<Response | undefined>,
  tls?: { cert: string; key: string },
): Proxy {
  const asked: Asked[] = [];
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    ...(tls && { tls }),
    fetch: async (request) => {
      const text = await request.text();
      const [, operation = ""] = (request.headers.get("x-amz-target") ?? "").split(".");
      const one = {
        operation,
        body: JSON.parse(text),
        authorization: request.headers.get("authorization") ?? "",
        token: request.headers.get("x-amz-security-token"),
        headers: Object.fromEntries(request.headers),
      };
      asked.push(one);
      return (
        (await answer(one)) ??
        (await fetch(endpoint, {
          method: "POST",
          headers: request.headers,
          body: text,
          decompress: false,
        }))
      );
    },
  });
  return {
    endpoint: server.url.origin,
    asked,
    [Symbol.asyncDispose]: () => server.stop(true),
  };
}

/** An error as DynamoDB words it. */
export function awsError(name: string, message: string, status = 400): Response {
  return Response.json(
    { __type: `com.amazon.coral.service#${name}`, message },
    { status, headers: { "content-type": "application/x-amz-json-1.0" } },
  );
}
