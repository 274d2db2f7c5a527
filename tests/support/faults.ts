import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { awsError } from "./proxy.ts";

/** What goes wrong with a request between a step and DynamoDB. */
export type Fault =
  | { kind: "reset before it arrives" | "reset after it is carried out" | "silence" | "half an answer" }
  | { kind: "a slow answer"; ms: number }
  | { kind: "another answer"; answer: () => Response; carriedOut?: boolean }
  | { kind: "a page without end" };

/** A DynamoDB that is reached by way of faults. */
export interface FaultyProxy extends AsyncDisposable {
  endpoint: string;
  /** How many requests met the fault. */
  met: () => number;
}

/**
 * Stands before the DynamoDB at an endpoint; the fault meets the requests of one operation from the `from`th on
 * (1 is the first), as many `times`.
 */
export async function startFaultyProxy(
  endpoint: string,
  fault: Fault,
  { operation, from, times }: { operation: string; from: number; times: number },
): Promise<FaultyProxy> {
  let seen = 0;
  let met = 0;
  const server = createServer((request, response) => {
    void serve(request, response).catch(() => request.socket.destroy());
  });

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = Buffer.concat(await Array.fromAsync(request));
    const isMeant = request.headers["x-amz-target"] === `DynamoDB_20120810.${operation}` && ++seen >= from;
    if (!isMeant || met >= times) return reply(response, await forward(request, body));
    met++;
    switch (fault.kind) {
      case "reset before it arrives":
        request.socket.destroy();
        return;
      case "reset after it is carried out":
        await forward(request, body);
        request.socket.destroy();
        return;
      case "silence":
        return;
      case "half an answer": {
        const answer = Buffer.from(await (await forward(request, body)).bytes());
        response.writeHead(200, {
          "content-type": "application/x-amz-json-1.0",
          "content-length": answer.length + 9,
        });
        response.write(answer.subarray(0, answer.length - 1), () => request.socket.destroy());
        return;
      }
      case "a slow answer": {
        const answer = await forward(request, body);
        await new Promise((over) => setTimeout(over, fault.ms));
        return reply(response, answer);
      }
      case "another answer":
        if (fault.carriedOut) await forward(request, body);
        return reply(response, fault.answer());
      case "a page without end": {
        const answer = (await (await forward(request, body)).json()) as object;
        const { ExpressionAttributeNames: names, ExpressionAttributeValues: values } = JSON.parse(
          body.toString(),
        );
        const LastEvaluatedKey = {
          [names["#key"]]: values[":key"],
          created: { S: "2026-01-01T00:00:00.000Z" },
        };
        return reply(response, Response.json({ ...answer, LastEvaluatedKey }));
      }
    }
  }

  function forward(request: IncomingMessage, body: Buffer): Promise<Response> {
    const headers = new Headers(request.headers as Record<string, string>);
    return fetch(endpoint, { method: "POST", headers, body: new Uint8Array(body), decompress: false });
  }

  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    met: () => met,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  };
}

async function reply(response: ServerResponse, answer: Response): Promise<void> {
  const bytes = await answer.bytes();
  response.writeHead(answer.status, {
    ...Object.fromEntries(answer.headers),
    "content-length": bytes.length,
  });
  response.end(bytes);
}

const JSON_1_0 = { "content-type": "application/x-amz-json-1.0" };

/** Every fault by a name, and whether a step gets over it when it comes but once. */
export const faults: Record<string, { fault: Fault; passes: boolean }> = {
  "a reset before the request arrives": { fault: { kind: "reset before it arrives" }, passes: true },
  "a reset after the request is carried out": {
    fault: { kind: "reset after it is carried out" },
    passes: true,
  },
  "half an answer": { fault: { kind: "half an answer" }, passes: true },
  "a slow answer": { fault: { kind: "a slow answer", ms: 1500 }, passes: true },
  "a damaged answer": {
    fault: {
      kind: "another answer",
      answer: () => Response.json({}, { headers: { ...JSON_1_0, "x-amz-crc32": "1" } }),
    },
    passes: true,
  },
  "a damaged answer to what is carried out": {
    fault: {
      kind: "another answer",
      carriedOut: true,
      answer: () => Response.json({}, { headers: { ...JSON_1_0, "x-amz-crc32": "1" } }),
    },
    passes: true,
  },
  "a captive portal": {
    fault: { kind: "another answer", answer: () => new Response("<html>Log in</html>") },
    passes: false,
  },
  "a captive portal after it is carried out": {
    fault: { kind: "another answer", carriedOut: true, answer: () => new Response("<html>Log in</html>") },
    passes: false,
  },
  "a page without end": { fault: { kind: "a page without end" }, passes: false },
  ...Object.fromEntries(
    [500, 502, 503].map((status) => [
      `HTTP ${status}`,
      {
        fault: { kind: "another answer", answer: () => new Response("<html></html>", { status }) },
        passes: true,
      },
    ]),
  ),
  ...Object.fromEntries(
    ["ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"].map((name) => [
      name,
      { fault: { kind: "another answer", answer: () => awsError(name, "slow down") }, passes: true },
    ]),
  ),
  "InternalServerError after it is carried out": {
    fault: {
      kind: "another answer",
      carriedOut: true,
      answer: () => awsError("InternalServerError", "again", 500),
    },
    passes: true,
  },
  "a wrong clock": {
    fault: {
      kind: "another answer",
      answer: () => {
        const answer = awsError("InvalidSignatureException", "Signature expired");
        answer.headers.set("date", new Date(Date.now() + 60 * 60 * 1000).toUTCString());
        return answer;
      },
    },
    passes: true,
  },
};
