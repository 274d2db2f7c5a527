import { afterAll, describe, expect, test } from "bun:test";
import { constants } from "node:fs";
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { compareCreated, oldStyleCreated, timeOf } from "../../shared/created.ts";
import { startDynalite } from "../support/engine.ts";
import { type Asked, startProxy } from "../support/proxy.ts";
import { type Answer, dist, type StepName, unreachable, type Version } from "../support/step.ts";
import { createTable, type TestTable } from "../support/table.ts";

// From dist alone: what a signal ends in an image is `docker exec`, not the binary.
const { command, answerOf } = dist;

const HOUR = 60 * 60_000;
const ENDED = { SIGINT: 130, SIGTERM: 143, SIGKILL: 137 } as const;
type Signal = keyof typeof ENDED;

const words: Record<StepName, string[]> = { check: [], in: ["/tmp"], out: ["/tmp"] };

const folder = await mkdtemp(`${tmpdir()}/signals-`);
afterAll(() => rm(folder, { recursive: true }));

const engine = await startDynalite();

const source = { ...unreachable, endpoint: undefined };

describe.each<Signal>(["SIGTERM", "SIGINT"])("%s ends", (signal) => {
  /** Sends the signal, and expects that nothing but its end follows. */
  const expectEnd = async (child: Bun.Subprocess<Bun.SpawnOptions.Writable, "pipe", "pipe">) => {
    child.kill(signal);
    const [status, stdout, stderr] = await Promise.all([
      child.exited,
      child.stdout.text(),
      child.stderr.text(),
    ]);
    // Ended by itself: the kernel does not end the first process of a container.
    expect({ status, by: child.signalCode, stdout, stderr }).toEqual({
      status: ENDED[signal],
      by: null,
      stdout: "",
      stderr: "",
    });
  };

  const start = async (step: StepName, request: unknown, env = {}) => {
    const { cmd, ...options } = await command(step, { words: words[step], env });
    const stdin = Buffer.from(JSON.stringify(request));
    return Bun.spawn(cmd, { ...options, stdin, stdout: "pipe", stderr: "pipe" });
  };

  /** A server that fails requests until the last one, which it leaves without an answer and tells about. */
  const silentAfter = (failures: number) => {
    const { promise: asked, resolve: tell } = Promise.withResolvers<void>();
    let requests = 0;
    const server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: () => {
        if (requests++ < failures) return new Response(null, { status: 500 });
        tell();
        return new Promise<Response>(() => {});
      },
    });
    return { endpoint: server.url.origin, asked, [Symbol.dispose]: () => void server.stop(true) };
  };

  describe.each<StepName>(["check", "out"])("%s", (step) => {
    test.each([1, 2, 3])("that waits for an answer, with attempt %d", async (attempt) => {
      // Both send two queries at the same time at first.
      using silent = silentAfter(2 * (attempt - 1));
      const request = { source: { ...source, endpoint: silent.endpoint }, params: { value: "1" } };
      const child = await start(step, { ...request, version: { created: "2026-01-01T00:00:00.000Z" } });
      await silent.asked;
      await expectEnd(child);
    });

    test("that waits for credentials", async () => {
      using silent = silentAfter(0);
      const { access_key: _, secret_key: __, ...keyless } = source;
      const request = { source: { ...keyless, endpoint: "http://127.0.0.1:1" }, params: { value: "1" } };
      const env = { HOME: folder, AWS_CONTAINER_CREDENTIALS_FULL_URI: `${silent.endpoint}/keys` };
      const child = await start(step, request, env);
      await silent.asked;
      await expectEnd(child);
    });
  });

  test.each<StepName>(["check", "in", "out"])("%s that reads its request", async (step) => {
    const { cmd, ...options } = await command(step, { words: words[step] });
    const child = Bun.spawn(cmd, { ...options, stdin: "pipe", stdout: "pipe", stderr: "pipe" });
    // More than a pipe holds: it is through when the other side has read of it.
    void child.stdin.write(" ".repeat(1_000_000));
    await child.stdin.flush();
    await expectEnd(child);
  });

  test("check that waits for a reader of its answer", async () => {
    await using table = await createTable(engine);
    await table.add({ created: "2026-01-01T00:00:00.000Z", value: "x".repeat(300_000) });
    const fifo = `${folder}/answer-${signal}`;
    await Bun.$`mkfifo ${fifo}`;
    await using answer = await open(fifo, constants.O_RDWR);
    const { cmd, ...options } = await command("check");
    const child = Bun.spawn(cmd, {
      ...options,
      stdin: Buffer.from(JSON.stringify({ source: table.source })),
      stdout: answer.fd,
    });
    // The first byte of more than a pipe holds; nobody reads the others.
    await answer.read(Buffer.alloc(1), 0, 1);
    child.kill(signal);
    expect({ status: await child.exited, by: child.signalCode }).toEqual({ status: ENDED[signal], by: null });
  });
});

describe("a put killed at any moment leaves its item whole or absent", () => {
  const ago = (hours: number) => new Date(Date.now() - hours * HOUR).toISOString();
  const oldAgo = (hours: number) => oldStyleCreated(Date.now() - hours * HOUR);
  const named = (...created: string[]) => created.map((one) => ({ created: one, value: one }));

  interface Situation {
    items?: Version[];
    claim?: string;
    keep?: number;
  }
  const situations: Record<string, Situation> = {
    "an empty key": {},
    "a used key": { items: named(ago(9), ago(0.5)) },
    "a key with old-style items": { items: named(oldAgo(9), oldAgo(8), ago(7)) },
    "a key with a claim left behind": { items: named(ago(9)), claim: ago(0.1) },
    "a key of which older items go": { items: named(oldAgo(9), ago(8), ago(7)), keep: 1 },
  };

  /** What becomes of the request at which the put is killed. */
  type Fate = "lost" | "carried out" | "carried out after the next put";
  const fates: Fate[] = ["lost", "carried out", "carried out after the next put"];
  const cases = Object.keys(situations).flatMap((name) => fates.map((fate) => [name, fate] as const));

  /** Does what a caught request asks of the engine. */
  const carryOut = async (table: TestTable, { headers, body }: Asked) => {
    const { "content-length": _, host: __, ...others } = headers;
    await fetch(table.source.endpoint, { method: "POST", headers: others, body: JSON.stringify(body) });
  };

  const put = async (table: TestTable, value: string) =>
    (await answerOf<Answer>("out", { source: table.source, params: { value } }, { words: words.out }))
      .version;

  /** Puts "killed" and kills it at a request; without so many requests, the put succeeds. */
  const putAndKill = async (table: TestTable, signal: Signal, atRequest: number, fate: Fate, keep = {}) => {
    const { promise: started, resolve: start } = Promise.withResolvers<Bun.Subprocess>();
    let last: Asked | undefined;
    await using proxy = startProxy(table.source.endpoint, async (asked) => {
      if (proxy.asked.indexOf(asked) !== atRequest - 1) return undefined;
      last = asked;
      if (fate === "carried out") await carryOut(table, asked);
      const child = await started;
      child.kill(signal);
      await child.exited;
      return new Response(null, { status: 500 });
    });
    const { cmd, ...options } = await command("out", { words: words.out });
    const request = {
      source: { ...table.source, ...keep, endpoint: proxy.endpoint },
      params: { value: "killed" },
    };
    const child = Bun.spawn(cmd, {
      ...options,
      stdin: Buffer.from(JSON.stringify(request)),
      stdout: "pipe",
      stderr: "pipe",
    });
    start(child);
    const [status, stdout] = await Promise.all([child.exited, child.stdout.text()]);
    const puts = proxy.asked.filter((asked) => asked.operation === "PutItem");
    const isStored = puts.some((asked) => asked !== last || fate === "carried out");
    return { status, stdout, last, isStored };
  };

  test.each(cases)("%s, and its last request is %s", async (name, fate) => {
    const { items = [], claim, keep } = situations[name]!;
    let isKilled = true;
    for (let atRequest = 1; isKilled; atRequest++) {
      const signal = atRequest % 2 === 0 ? "SIGTERM" : "SIGKILL";
      await using table = await createTable(engine);
      await table.add(...items);
      if (claim !== undefined) await table.claim(claim);

      const { status, stdout, last, isStored } = await putAndKill(
        table,
        signal,
        atRequest,
        fate,
        keep && { keep },
      );
      isKilled = last !== undefined;
      expect({ atRequest, status, isEmpty: stdout === "" }).toEqual({
        atRequest,
        status: isKilled ? ENDED[signal] : 0,
        isEmpty: isKilled,
      });
      const whole = {
        application: "my-app",
        created: expect.stringMatching(/^2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
        value: "killed",
        put_id: expect.stringMatching(/^[\da-f-]{36}$/),
      };
      const isOfPut = (item: Record<string, string>) =>
        !items.some(({ created }) => created === item.created);
      expect((await table.items()).filter(isOfPut)).toEqual(isStored ? [whole] : []);

      const next = await put(table, "next");
      if (last && fate === "carried out after the next put") await carryOut(table, last);
      const versions = await answerOf<Version[]>("check", { source: table.source });
      const stored = (await table.items())
        .map(({ created = "", value = "" }) => ({ created, value, time: timeOf(created) ?? NaN }))
        .toSorted(compareCreated);
      expect(versions).toEqual(stored.map(({ created, value }) => ({ created, value })));
      expect(versions.at(-1)).toEqual(next);
      expect(versions.filter(({ value }) => value === "killed")).toHaveLength(isStored ? 1 : 0);
      if (!isKilled) expect(atRequest).toBeGreaterThan(3);
    }
  });
});

describe("a put that a signal ends while its item may be on the way", () => {
  const startPut = async (to: object) => {
    const { cmd, ...options } = await command("out", { words: ["/tmp"] });
    const stdin = Buffer.from(JSON.stringify({ source: to, params: { value: "1" } }));
    return Bun.spawn(cmd, { ...options, stdin, stdout: "pipe", stderr: "pipe" });
  };

  test.each([
    ["SIGHUP", 129],
    ["SIGQUIT", 131],
  ] as const)("tells it at %s as well", async (signal, status) => {
    await using table = await createTable(engine);
    const { promise: waiting, resolve: wait } = Promise.withResolvers<void>();
    let sent = 0;
    await using proxy = startProxy(table.source.endpoint, ({ operation }) => {
      if (operation !== "PutItem" || sent++ > 0) return undefined;
      wait();
      return new Promise<Response>(() => {});
    });
    const child = await startPut({ ...table.source, endpoint: proxy.endpoint });
    await waiting;
    child.kill(signal);
    expect(await child.stderr.text()).toMatch(/^the value is stored \(created 2\S+Z\)\n$/);
    expect(await child.exited).toBe(status);
  });

  test("goes on at a SIGHUP that whoever started it ignores, as nohup does", async () => {
    await using table = await createTable(engine);
    const { promise: waiting, resolve: wait } = Promise.withResolvers<void>();
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    await using proxy = startProxy(table.source.endpoint, async ({ operation }) => {
      if (operation !== "PutItem") return undefined;
      wait();
      await released;
      return undefined;
    });
    const request = { source: { ...table.source, endpoint: proxy.endpoint }, params: { value: "1" } };
    const { cmd, ...options } = await command("out", { words: ["/tmp"] });
    const child = Bun.spawn(["sh", "-c", `trap '' HUP QUIT; exec "$0" "$@"`, ...cmd], {
      ...options,
      stdin: Buffer.from(JSON.stringify(request)),
      stderr: "pipe",
    });
    await waiting;
    child.kill("SIGHUP");
    child.kill("SIGQUIT");
    release();
    expect({ status: await child.exited, stderr: await child.stderr.text() }).toEqual({
      status: 0,
      stderr: "",
    });
  });

  type Attempt = "silent" | "carried out and silent" | "passes" | "taken";
  test.concurrent.each<[string, Attempt[], Attempt, RegExp, number]>([
    ["stored by the second attempt", ["silent"], "passes", /^the value is stored \(created 2\S+Z\)$/, 1],
    [
      "stored by the first",
      ["carried out and silent"],
      "passes",
      /^the value is stored \(created 2\S+Z\)$/,
      1,
    ],
    ["stored by another", ["silent"], "taken", /^the value is not stored/, 1],
    ["silence", ["silent"], "silent", /^the value may or may not be stored \(created 2\S+Z\)$/, 0],
  ])("tells what became of it: %s", async (_, first, after, line, items) => {
    await using table = await createTable(engine);
    const { promise: waiting, resolve: wait } = Promise.withResolvers<void>();
    const attempts = [...first];
    await using proxy = startProxy(table.source.endpoint, async ({ operation, body }) => {
      if (operation !== "PutItem") return undefined;
      const attempt = attempts.shift() ?? after;
      if (attempt === "carried out and silent") await table.send(operation, body);
      if (attempt === "taken") {
        const { Item: item } = body as { Item: Record<string, { S: string }> };
        await table.add({ created: item.created!.S, value: { ...item, put_id: { S: "another" } } });
      }
      if (attempt === "passes" || attempt === "taken") return undefined;
      wait();
      return new Promise<Response>(() => {});
    });
    const child = await startPut({ ...table.source, endpoint: proxy.endpoint });
    await waiting;
    child.kill("SIGTERM");
    const [status, stdout, stderr] = await Promise.all([
      child.exited,
      child.stdout.text(),
      child.stderr.text(),
    ]);
    expect({ status, stdout }).toEqual({ status: 143, stdout: "" });
    // In silence, no attempt ends within the 5 s that a signal waits.
    expect(stderr.trimEnd()).toMatch(line);
    expect(await table.items()).toHaveLength(items);
  });

  test("puts at no other place once a signal has come", async () => {
    await using table = await createTable(engine);
    const { promise: claiming, resolve: claim } = Promise.withResolvers<void>();
    const { promise: settled, resolve: settle } = Promise.withResolvers<void>();
    const places: string[] = [];
    let claims = 0;
    await using proxy = startProxy(table.source.endpoint, async ({ operation, body }) => {
      if (operation === "UpdateItem" && ++claims === 2) {
        claim();
        // The claim of the second place is carried out when the first one has been settled.
        await settled;
      }
      if (operation !== "PutItem") return undefined;
      const { Item: item } = body as { Item: Record<string, { S: string }> };
      const { S: created } = item.created!;
      places.push(created);
      if (places.length === 1) {
        await table.add({ created, value: { ...item, put_id: { S: "another" } } });
      } else {
        settle();
      }
      return undefined;
    });
    const child = await startPut({ ...table.source, endpoint: proxy.endpoint });
    await claiming;
    child.kill("SIGTERM");
    expect({ status: await child.exited, stderr: await child.stderr.text() }).toEqual({
      status: 143,
      stderr: expect.stringMatching(/^the value is not stored/),
    });
    expect(new Set(places).size).toBe(1);
    expect(await table.items()).toHaveLength(1);
  });

  test("a second signal ends it at once", async () => {
    await using table = await createTable(engine);
    let puts = 0;
    const { promise: settling, resolve: settle } = Promise.withResolvers<void>();
    const { promise: waiting, resolve: wait } = Promise.withResolvers<void>();
    await using proxy = startProxy(table.source.endpoint, ({ operation }) => {
      if (operation !== "PutItem") return undefined;
      (puts++ === 0 ? wait : settle)();
      return new Promise<Response>(() => {});
    });
    const child = await startPut({ ...table.source, endpoint: proxy.endpoint });
    await waiting;
    child.kill("SIGTERM");
    await settling;
    child.kill("SIGTERM");
    expect({ status: await child.exited, stderr: await child.stderr.text() }).toEqual({
      status: 143,
      stderr: "",
    });
  });
});
