import { spyOn } from "bun:test";
import { AsyncLocalStorage } from "node:async_hooks";
import {
  type AttributeValue,
  ConditionalCheckFailedException,
  type DeleteItemCommand,
  PutItemCommand,
  QueryCommand,
  type QueryCommandInput,
  UpdateItemCommand,
} from "@aws-sdk/client-dynamodb";
import * as fc from "fast-check";
import {
  compareCreated,
  FIRST_ISO,
  HEAD_CREATED,
  isoCreated,
  oldStyleCreated,
  type Timed,
  timeOf,
} from "../../shared/created.ts";
import { withTime } from "../../shared/dynamodb.ts";
import { versionsFor } from "../../shared/history.ts";
import type { Item, Table } from "../../shared/transport.ts";
import { deleteOldest, type Newest, putNewest } from "../../shared/order.ts";
import { DEFAULT_HISTORY } from "../../shared/schema.ts";

type Command = QueryCommand | PutItemCommand | UpdateItemCommand | DeleteItemCommand;
type Answer = { Items?: Item[]; LastEvaluatedKey?: Item | undefined };
type Attempts = { isUnanswered: boolean };

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;

/** A put takes less, and so do its late requests; an hour less twice five minutes is what `keep` leaves for them. */
const LONGEST_PUT = 45 * MINUTE;
const SHORTEST_LIFE = HOUR - 2 * 5 * MINUTE;

const PARTITION_KEY = "application";
const KEY = "key";
const MOST_DELETED = 100;
const MOST_STEPS = 10_000;

const FAULTS = ["lost", "late", "again", "againLate", "refused", "crash", "crashLate"] as const;

/** What goes wrong with a request: "late" ones arrive after all, "again" is what the SDK does by itself. */
type Fault = "none" | (typeof FAULTS)[number];

/** One choice of the scheduler: who goes on, for how many steps, and what happens then. */
interface Choice {
  leap: number;
  actor: number;
  steps: number;
  request: number;
  fault: Fault;
}

interface Writer {
  skew: number;
  puts: { value: "same" | "own" | "bump"; keep: number | undefined }[];
}

/** Everything that a run of the model depends on. */
export interface Scenario {
  start: number;
  /** Items that are there already, by their age. */
  history: { age: number; isOldStyle: boolean }[];
  hasOddItems: boolean;
  hasCrowd: boolean;
  /** The age of the place that the head claims. */
  claim: number | undefined;
  pageSize: number;
  /** Whether a refused PutItem gives back the item that is at its place. */
  givesOld: boolean;
  writers: Writer[];
  /** Writers of the C# resource: they put at their clock's second, whatever is there. */
  oldWriters: { skew: number; puts: number }[];
  /** The most bytes of a check's answer. */
  checkBytes: number;
  /** The most versions of a check without a cursor. */
  checkHistory: number;
  readers: { skew: number; polls: number }[];
  choices: Choice[];
}

const AGES = [
  10 * MINUTE,
  2 * HOUR,
  3 * HOUR,
  61 * MINUTE,
  59 * MINUTE,
  1,
  0,
  MINUTE,
  30 * HOUR,
  400 * 24 * HOUR,
  -3 * MINUTE,
  -40 * MINUTE,
  -3 * HOUR,
];

/** Scenarios with clocks that are off by `skew` at most; `keep` is for clocks that can be relied on. */
export function scenarios({
  skew,
  keeps,
  oldWriters = false,
}: {
  skew: number;
  keeps: boolean;
  oldWriters?: boolean;
}): fc.Arbitrary<Scenario> {
  const skews = fc.constantFrom(...[0, 1, -1, 0.2, -0.2, 0.5, -0.5].map((part) => part * skew));
  const puts = fc.record({
    value: fc.constantFrom("own" as const, "same" as const, "bump" as const, "bump" as const),
    keep: keeps ? fc.constantFrom(undefined, 1, 1, 2, 3) : fc.constant(undefined),
  });
  const often = <T>(value: T, times: number) => Array.from({ length: times }, () => value);
  const choices = fc.record({
    leap: fc.constantFrom(...often(0, 40), 1, 1, 1, SECOND, MINUTE, 4 * MINUTE, 20 * MINUTE, 3 * HOUR),
    actor: fc.nat(59),
    steps: fc.constantFrom(1, 1, 1, 2, 2, 3, 4, 5, 7, 12),
    request: fc.nat(2),
    fault: fc.constantFrom<Fault[]>("none", ...often("none" as const, 40), ...FAULTS),
  });
  return fc.noBias(
    fc.record({
      start: fc.constantFrom(
        ...["2026-06-15T12:00:00.000Z", "2026-12-31T23:58:00.700Z", "2027-01-01T00:02:00.000Z"].map(
          Date.parse,
        ),
      ),
      history: fc.uniqueArray(
        fc.record({ age: fc.constantFrom(...AGES), isOldStyle: fc.constantFrom(false, false, true) }),
        { maxLength: 5, selector: ({ age }) => age },
      ),
      hasOddItems: fc.constantFrom(false, false, false, true),
      hasCrowd: keeps ? fc.constantFrom(...often(false, 99), true) : fc.constant(false),
      claim: fc.constantFrom(undefined, undefined, undefined, ...AGES),
      pageSize: fc.constantFrom(1000, 1000, 3, 2),
      givesOld: fc.boolean(),
      writers: fc.array(fc.record({ skew: skews, puts: fc.array(puts, { minLength: 1, maxLength: 3 }) }), {
        minLength: 1,
        maxLength: 5,
        size: "max",
      }),
      oldWriters: fc.array(fc.record({ skew: skews, puts: fc.integer({ min: 1, max: 4 }) }), {
        minLength: oldWriters ? 1 : 0,
        maxLength: oldWriters ? 3 : 0,
        size: "max",
      }),
      // Of two versions at least: the cursor, and one to go on to.
      checkBytes: oldWriters
        ? fc.constantFrom(8 * 1024 * 1024, 330, 360, 370, 650)
        : fc.constant(8 * 1024 * 1024),
      checkHistory: oldWriters ? fc.constantFrom(DEFAULT_HISTORY, 1, 2) : fc.constant(DEFAULT_HISTORY),
      readers: fc.array(fc.record({ skew: skews, polls: fc.nat(oldWriters ? 8 : 4) }), {
        minLength: oldWriters ? 1 : 0,
        maxLength: 2,
        size: "max",
      }),
      choices: fc.array(choices, { maxLength: 100, size: "max" }),
    }),
  );
}

/** Plays a scenario to its end; throws an Error that tells the broken promise and what led to it. */
export async function play(scenario: Scenario): Promise<void> {
  const model = new Model(scenario);
  using clock = spyOn(Date, "now");
  clock.mockImplementation(() => model.now + (runOfCaller.getStore()?.skew ?? 0));
  // A timer for each of a million requests would outlive the test.
  using timer = spyOn(AbortSignal, "timeout");
  timer.mockImplementation(() => new AbortController().signal);
  using pause = spyOn(Bun, "sleep");
  pause.mockImplementation(() => pauseOf(runOfCaller.getStore()));
  await model.play();
}

const runOfCaller = new AsyncLocalStorage<Run>();

/** A pause ends when the scheduler comes to it, as an answer does. */
function pauseOf(run: Run | undefined): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  run?.requests.push({ command: undefined, attempts: undefined, outcome: {}, settle: () => resolve() });
  return promise;
}

/** An error that the model gives as DynamoDB's or the network's. */
class GivenError extends Error {
  constructor(name: string) {
    super(name);
    this.name = name;
  }
}

interface Request {
  /** Undefined for a pause. */
  command: Command | undefined;
  attempts: Attempts | undefined;
  /** Undefined until the request has arrived and is carried out. */
  outcome: Answer | Error | undefined;
  settle: (outcome: Answer | Error) => void;
}

/** A run of `out` or `check`. */
interface Run {
  name: string;
  skew: number;
  startedAt: number;
  isOver: boolean;
  requests: Request[];
  asked: number;
}

interface PutRun extends Run {
  value: string;
  /** The `created` that a bump was computed from, and undefined where there was none; other puts follow anything. */
  follows: { created: string | undefined } | undefined;
  keep: number | undefined;
  /** Undefined until the put has told its version. */
  created: string | undefined;
  mayBeStored: boolean;
  deleted: Set<string>;
}

/** One writer's puts or one reader's polls, one after the other. */
interface Lane {
  run: Run | undefined;
  todo: (() => Run)[];
}

interface Insertion extends Timed {
  put: PutRun;
  item: Item;
  step: number;
  at: number;
  deletedStep: number | undefined;
}

/** An item of a C# writer, at its last overwriting. */
interface OldInsertion extends Timed {
  step: number;
}

interface Reader {
  skew: number;
  startedStep: number | undefined;
  /** The oldest version of its first answer. */
  first: Timed | undefined;
  cursor: Timed | undefined;
  seen: Set<string>;
  /** The steps from which to which a poll went that got its answer. */
  polls: { from: number; to: number }[];
}

class Model {
  now: number;
  readonly #scenario: Scenario;
  readonly #items: Items;
  readonly #puts: PutRun[] = [];
  readonly #insertions: Insertion[] = [];
  readonly #oldInsertions: OldInsertion[] = [];
  /** Items behind which another was inserted when they were newer: of them alone readers may miss some. */
  readonly #behind = new Set<string>();
  readonly #late: { run: Run; command: Command }[] = [];
  readonly #writers: Lane[];
  readonly #oldWriters: Lane[];
  readonly #readers: { reader: Reader; lane: Lane }[];
  readonly #events: string[] = [];
  #latest = -Infinity;
  #latestCreated: string | undefined;
  #step = 0;
  #broken: string | undefined;

  constructor(scenario: Scenario) {
    this.#scenario = scenario;
    this.now = scenario.start;
    this.#items = new Items(scenario.pageSize, scenario.givesOld);
    this.#fill(scenario);
    this.#writers = scenario.writers.map(({ skew, puts }, writer) => ({
      run: undefined,
      todo: puts.map(({ value, keep }, index) => () => {
        const name = `put ${writer + 1}.${index + 1}`;
        return this.#startPut(name, value, skew, keep);
      }),
    }));
    this.#oldWriters = scenario.oldWriters.map(({ skew, puts }, writer) => ({
      run: undefined,
      todo: Array.from({ length: puts }, (_, index) => () => {
        return this.#startOldPut(`old-style put ${writer + 1}.${index + 1}`, skew);
      }),
    }));
    this.#readers = scenario.readers.map(({ skew, polls }, index) => {
      const reader = newReader(skew);
      const todo = Array.from({ length: polls }, (_, asked) => () => {
        return this.#startPoll(`poll ${index + 1}.${asked + 1}`, reader);
      });
      return { reader, lane: { run: undefined, todo } };
    });
  }

  async play(): Promise<void> {
    const lanes = [...this.#writers, ...this.#oldWriters, ...this.#readers.map(({ lane }) => lane)];
    const choices = this.#scenario.choices.values();
    for (;;) {
      const active = lanes.filter(({ run, todo }) => (run && !run.isOver) || todo.length > 0);
      const actors = active.length + this.#late.length;
      if (actors === 0) break;
      const choice = choices.next().value ?? {
        leap: 0,
        actor: 0,
        steps: Infinity,
        request: 0,
        fault: "none",
      };
      this.#leap(choice.leap);
      const actor = choice.actor % actors;
      const lane = active[actor];
      if (lane) await this.#advance(lane, choice);
      else this.#arriveLate(actor - active.length);
    }
    await this.#putAlone();
    for (const { reader } of this.#readers) {
      await this.#pollAlone(reader);
      this.#requireAllSeen(reader);
    }
    for (const cursor of [undefined, ...this.#insertions]) await this.#pollAlone(newReader(0, cursor));
    this.#requireAllStored();
    this.#tell();
  }

  #fill({ start, history, hasOddItems, hasCrowd, claim }: Scenario): void {
    const ages = hasCrowd
      ? Array.from({ length: MOST_DELETED + 10 }, (_, index) => 5 * HOUR + index * MINUTE)
      : [];
    const createds = [
      ...history.map(({ age, isOldStyle }) => (isOldStyle ? oldStyleCreated : isoCreated)(start - age)),
      ...ages.map((age) => isoCreated(start - age)),
    ];
    for (const created of createds) {
      this.#items.add(created, { value: { S: "history" } });
      if ((timeOf(created) ?? 0) > this.#latest) this.#setLatest(created);
    }
    for (const created of hasOddItems ? ["zzz", "2999", "12/12/2999", "13/01/2026 00:00:00"] : []) {
      this.#items.add(created, { value: { S: "odd" } });
    }
    if (claim !== undefined) {
      this.#items.add(HEAD_CREATED, { value: { S: "" }, put_next: { S: isoCreated(start - claim) } });
    }
  }

  #setLatest(created: string): void {
    this.#latest = timeOf(created) ?? 0;
    this.#latestCreated = created;
  }

  /** Time goes by; what would have taken too long by then has ended without a word. */
  #leap(ms: number): void {
    if (ms === 0) return;
    this.now += ms;
    this.#tell(`${ms} ms go by`);
    for (const { run } of this.#writers) {
      if (run && this.now - run.startedAt > LONGEST_PUT) run.isOver = true;
    }
    const late = this.#late.filter(({ run }) => this.now - run.startedAt <= LONGEST_PUT);
    this.#late.splice(0, Infinity, ...late);
  }

  async #advance(lane: Lane, { steps, request, fault }: Partial<Choice> = {}): Promise<void> {
    for (let left = steps ?? Infinity; left > 0; left--) {
      if (!lane.run || lane.run.isOver) {
        const start = lane.todo.shift();
        if (!start) return;
        this.#step++;
        lane.run = start();
        await settled();
      } else {
        await this.#advanceRequest(lane.run, request ?? 0);
      }
      this.#tell();
    }
    if (lane.run && !lane.run.isOver && fault !== undefined && fault !== "none") {
      await this.#fail(lane.run, request ?? 0, fault);
      this.#tell();
    }
  }

  async #advanceRequest(run: Run, index: number): Promise<void> {
    const request = run.requests[index % run.requests.length];
    if (!request) return this.#break(`${run.name} waits for nothing`);
    if (++this.#step > MOST_STEPS) return this.#break(`${run.name} comes to no end`);
    if (request.outcome) return this.#answer(run, request, request.outcome);
    if (request.command) request.outcome = this.#carryOut(run, request.command);
  }

  async #answer(run: Run, request: Request, outcome: Answer | Error): Promise<void> {
    run.requests.splice(run.requests.indexOf(request), 1);
    request.settle(outcome);
    await settled();
  }

  async #fail(run: Run, index: number, fault: Fault): Promise<void> {
    const request = run.requests[index % run.requests.length];
    if (!request?.command || !request.attempts) return;
    const { command, attempts, outcome } = request;
    this.#events.push(`${run.name}: ${outcome ? "answer to " : ""}${describe(command)}: ${fault}`);
    const isCrash = fault === "crash" || fault === "crashLate";
    const isLate = fault === "late" || fault === "againLate" || fault === "crashLate";
    if (isLate && !outcome && !(command instanceof QueryCommand)) this.#late.push({ run, command });
    if (isCrash) {
      run.isOver = true;
    } else if (fault === "refused" && !outcome) {
      await this.#answer(run, request, new GivenError("ThrottlingException"));
    } else {
      attempts.isUnanswered = true;
      if (fault === "again" || fault === "againLate") request.outcome = undefined;
      else await this.#answer(run, request, new GivenError("TimeoutError"));
    }
  }

  #arriveLate(index: number): void {
    const [late] = this.#late.splice(index, 1);
    if (!late) return;
    this.#step++;
    this.#events.push("late:");
    this.#carryOut(late.run, late.command);
    this.#tell();
  }

  #carryOut(run: Run, command: Command): Answer | Error {
    this.#requireSound(run, command);
    const outcome = this.#items.carryOut(command);
    const told =
      outcome instanceof Error ? outcome.name : (outcome.Items?.map(createdOf).join(", ") ?? "done");
    this.#events.push(`${run.name}: ${describe(command)}: ${told}`);
    return outcome;
  }

  /** What holds of each request at the moment when it is carried out. */
  #requireSound(run: Run, command: Command): void {
    if (command instanceof QueryCommand) {
      if (command.input.ConsistentRead !== true) this.#break(`${run.name} reads what may be out of date`);
    } else if (command instanceof PutItemCommand && command.input.ConditionExpression === undefined) {
      this.#insertOldStyle(createdOf(command.input.Item ?? {}));
    } else if (command instanceof PutItemCommand) {
      if (this.#items.accepts(command)) this.#insert(run as PutRun, command.input.Item ?? {});
    } else if (command instanceof UpdateItemCommand) {
      if (this.#items.accepts(command) && this.#claimed() !== undefined)
        this.#break(`${run.name} replaces the claim of ${this.#items.putNext()}`);
    } else {
      this.#delete(run as PutRun, createdOf(command.input.Key ?? {}));
    }
  }

  #insert(put: PutRun, item: Item): void {
    const created = createdOf(item);
    const time = timeOf(created);
    if (this.#items.has(created)) this.#break(`${put.name} overwrites the item of ${created}`);
    if (time === undefined) return this.#break(`${put.name} puts at ${created}, which is no time`);
    // A writer that knows no claims may put ahead of a place that is claimed and not yet filled.
    if (time <= this.#latest && this.#oldWriters.length === 0)
      this.#break(`${put.name} inserts ${created} behind ${isoCreated(this.#latest)}`);
    if (this.#insertions.some((other) => other.put === put))
      this.#break(`${put.name} stores its value twice`);
    if (put.follows && this.#oldWriters.length === 0 && put.follows.created !== this.#latestCreated)
      this.#break(`${put.name} was computed from ${put.follows.created} and follows ${this.#latestCreated}`);
    this.#noteOrder({ created, time });
    this.#setLatest(created);
    const step = this.#step;
    this.#insertions.push({ created, time, put, item, step, at: this.now, deletedStep: undefined });
  }

  #insertOldStyle(created: string): void {
    if (this.#items.has(created)) return;
    const item = { created, time: timeOf(created) ?? 0 };
    this.#noteOrder(item);
    this.#oldInsertions.push({ ...item, step: this.#step });
  }

  #noteOrder(item: Timed): void {
    const latest = this.#items.timed().at(-1);
    if (latest && compareCreated(item, latest) < 0) this.#behind.add(item.created);
  }

  #delete(put: PutRun, created: string): void {
    put.deleted.add(created);
    if (put.deleted.size > MOST_DELETED) this.#break(`${put.name} deletes more than ${MOST_DELETED} items`);
    if (created === HEAD_CREATED) this.#break(`${put.name} deletes the head`);
    if (!this.#items.has(created)) return;
    const items = this.#items.timed();
    const index = items.findIndex((item) => item.created === created);
    const next = items[index + 1];
    const hourBefore = (timeOf(put.created ?? "") ?? 0) - HOUR;
    const deletes = `${put.name}, which put ${put.created} and keeps ${put.keep}, deletes ${created}`;
    if (index === -1) this.#break(`${deletes}, which is no version`);
    if (index > 0) this.#break(`${deletes} before ${items[0]?.created}`);
    if (index >= items.length - (put.keep ?? Infinity)) this.#break(`${deletes} of ${items.length} items`);
    if (!next || next.time > hourBefore)
      this.#break(`${deletes}, and the next newer one is of ${next?.created}`);
    const insertion = this.#insertions.findLast((one) => one.created === created);
    if (insertion) insertion.deletedStep = this.#step;
    const age = this.now - (insertion?.at ?? timeOf(created) ?? 0);
    if (age < SHORTEST_LIFE) this.#break(`${deletes}, which readers had ${age} ms for`);
  }

  #startPut(
    name: string,
    kind: Writer["puts"][number]["value"],
    skew: number,
    keep: number | undefined,
  ): PutRun {
    const isBump = kind === "bump";
    const put: PutRun = {
      ...this.#newRun(name, skew),
      value: kind === "same" ? kind : name,
      follows: undefined,
      keep,
      created: undefined,
      mayBeStored: false,
      deleted: new Set(),
    };
    this.#puts.push(put);
    void this.#live(put, async () => {
      const options = {
        decide: (newest: Newest | undefined) => {
          if (isBump) put.follows = { created: newest?.created };
          return put.value;
        },
        needsNewest: isBump,
        mustFollow: isBump,
        putBuild: undefined,
        warn: () => {},
        atSignal: () => {},
      };
      try {
        put.mayBeStored = true;
        put.created = (await putNewest(this.#tableOf(put), options)).created;
        this.#requireOwn(put);
      } catch (error) {
        put.mayBeStored = String(error).includes("the value may or may not be stored");
        throw error;
      }
      if (put.keep !== undefined) await deleteOldest(this.#tableOf(put), put.keep, put.created);
    });
    return put;
  }

  #startOldPut(name: string, skew: number): Run {
    const run = this.#newRun(name, skew);
    void this.#live(run, async () => {
      const Item = {
        [PARTITION_KEY]: { S: KEY },
        created: { S: oldStyleCreated(this.now + skew) },
        value: { S: "" },
      };
      const attempts = { isUnanswered: false } as Attempts & Parameters<Table["client"]["send"]>[1];
      await this.#tableOf(run).client.send(new PutItemCommand({ TableName: "table", Item }), attempts);
    });
    return run;
  }

  #startPoll(name: string, reader: Reader): Run {
    const run = this.#newRun(name, reader.skew);
    const from = this.#step;
    reader.startedStep ??= from;
    void this.#live(run, async () => {
      const { cursor } = reader;
      const { checkHistory: history, checkBytes: bytes } = this.#scenario;
      const wanted = { cursor, history, bytes };
      const versions = (await versionsFor(this.#tableOf(run), wanted, () => {})) ?? [];
      this.#requireWhole(run, reader, versions, from);
      for (const { created } of versions) reader.seen.add(created);
      reader.first ??= versions[0];
      reader.cursor = versions.at(-1) ?? reader.cursor;
      reader.polls.push({ from, to: this.#step });
    });
    return run;
  }

  #newRun(name: string, skew: number): Run {
    this.#events.push(`${name} starts, its clock off by ${skew} ms`);
    return { name, skew, startedAt: this.now, isOver: false, requests: [], asked: 0 };
  }

  async #live(run: Run, work: () => Promise<void>): Promise<void> {
    try {
      await runOfCaller.run(run, work);
      this.#events.push(`${run.name} succeeds`);
    } catch (error) {
      const fails = `${run.name} fails: ${String(error)}`;
      this.#events.push(fails);
      if (!isGiven(error)) this.#break(fails);
    }
    run.isOver = true;
  }

  #tableOf(run: Run): Table {
    const send = (command: Command, attempts: Attempts) => {
      const { promise, resolve, reject } = Promise.withResolvers<Answer>();
      const settle = (outcome: Answer | Error) =>
        outcome instanceof Error ? reject(outcome) : resolve(outcome);
      run.requests.push({ command, attempts, outcome: undefined, settle });
      run.asked++;
      return promise;
    };
    const table: Partial<Table> = {
      tableName: "table",
      partitionKey: PARTITION_KEY,
      key: KEY,
      region: "us-east-1",
      client: { send: send as Table["client"]["send"] },
      isForPut: true,
    };
    return table as Table;
  }

  /** After everything, a put that nobody disturbs takes few requests and fills what is claimed. */
  async #putAlone(): Promise<void> {
    const claimed = this.#claimed();
    const lane: Lane = { run: undefined, todo: [() => this.#startPut("last put", "own", 0, undefined)] };
    await this.#advance(lane);
    const put = this.#puts.at(-1);
    if (put?.created === undefined) return this.#break("the last put fails");
    if (claimed !== undefined && put.created !== claimed)
      this.#break(`the last put does not fill the place claimed, ${claimed}`);
    const { pageSize, hasOddItems, history } = this.#scenario;
    const hasOldStyle = this.#oldWriters.length > 0 || history.some(({ isOldStyle }) => isOldStyle);
    const isPlain = pageSize === 1000 && !hasOddItems && !hasOldStyle;
    if (isPlain && put.asked > 4) this.#break(`the last put takes ${put.asked} requests`);
    this.#tell();
  }

  /** The place that somebody claimed and nobody has filled. */
  #claimed(): string | undefined {
    const putNext = this.#items.putNext();
    const latest = this.#items.timed().at(-1)?.time ?? -Infinity;
    return putNext !== undefined && (timeOf(putNext) ?? 0) > latest ? putNext : undefined;
  }

  async #pollAlone(reader: Reader): Promise<void> {
    for (let before; before !== reader.seen.size;) {
      before = reader.seen.size;
      await this.#advance({ run: undefined, todo: [() => this.#startPoll("last poll", reader)] });
    }
  }

  #requireOwn(put: PutRun): void {
    const insertion = this.#insertions.find(({ created }) => created === put.created);
    if (insertion?.put !== put) this.#break(`${put.name} tells ${put.created}, which is not its own`);
  }

  /**
   * A poll gives nothing that is older than its cursor, and all that was there before what it gives last, or
   * before it started: unless that is newer than what it gives last since an answer has its bounds.
   */
  #requireWhole(run: Run, { cursor }: Reader, versions: Timed[], from: number): void {
    const given = new Set(versions.map(({ created }) => created));
    const [oldest, newest] = [versions[0], versions.at(-1)];
    if (cursor && (!oldest || compareCreated(oldest, cursor) < 0))
      this.#break(`${run.name} goes back from ${cursor.created} to ${oldest?.created}`);
    const insertions = this.#allInsertions();
    const newestStep = insertions.findLast(({ created }) => created === newest?.created)?.step ?? 0;
    const start = cursor ?? oldest;
    for (const item of insertions) {
      if (item.deletedStep !== undefined || (start && compareCreated(item, start) <= 0)) continue;
      // A range of ISO items is read in the order of time, page by page: the next page does not go back.
      if (this.#behind.has(item.created) && item.created >= FIRST_ISO && this.#scenario.pageSize < 1000)
        continue;
      const isWithin = newest !== undefined && compareCreated(item, newest) <= 0;
      const isDue = item.step < from && (isWithin || !cursor || versions.length < 2 || !this.#isBounded());
      if ((isDue || (isWithin && item.step < newestStep)) && !given.has(item.created))
        this.#break(`${run.name} does not give ${item.created}`);
    }
  }

  /** A reader has seen all that was inserted after its start and not behind another, unless it never asked while it was there. */
  #requireAllSeen({ seen, first, startedStep = 0, polls }: Reader): void {
    for (const item of this.#allInsertions()) {
      const { created, step, deletedStep } = item;
      const wasThere =
        deletedStep === undefined || polls.some(({ from, to }) => from > step && to < deletedStep);
      const isDue = step > startedStep && wasThere && !this.#behind.has(created);
      if (isDue && first && compareCreated(item, first) >= 0 && !seen.has(created))
        this.#break(`a reader never sees ${created}`);
    }
  }

  #allInsertions(): (Timed & { step: number; deletedStep: number | undefined })[] {
    return [...this.#insertions, ...this.#oldInsertions.map((item) => ({ ...item, deletedStep: undefined }))];
  }

  #isBounded(): boolean {
    return this.#scenario.checkBytes < 8 * 1024 * 1024;
  }

  #requireAllStored(): void {
    for (const put of this.#puts) {
      const insertion = this.#insertions.find((one) => one.put === put);
      if (!insertion && put.created !== undefined) this.#break(`${put.name} succeeded and stored nothing`);
      if (insertion && !put.mayBeStored) this.#break(`${put.name} failed and is stored`);
    }
    for (const { created, item, put, deletedStep } of this.#insertions) {
      const there = this.#items.get(created);
      if (deletedStep !== undefined) continue;
      if (there?.put_id?.S !== item.put_id?.S || there?.value?.S !== put.value)
        this.#break(`the item of ${put.name} is not there any more`);
    }
  }

  #break(message: string): void {
    this.#broken ??= message;
  }

  /** Adds an event, and ends the run when a promise is broken. */
  #tell(event?: string): void {
    if (event !== undefined) this.#events.push(event);
    if (this.#broken !== undefined) throw new Error(`${this.#broken}\n\n${this.#events.join("\n")}`);
  }
}

/** The items of one key, as DynamoDB keeps them: a request is carried out at one moment. */
class Items {
  readonly #items = new Map<string, Item>();
  readonly #pageSize: number;
  readonly #givesOld: boolean;

  constructor(pageSize: number, givesOld: boolean) {
    this.#pageSize = pageSize;
    this.#givesOld = givesOld;
  }

  add(created: string, item: Item): void {
    this.#items.set(created, { [PARTITION_KEY]: { S: KEY }, created: { S: created }, ...item });
  }

  has(created: string): boolean {
    return this.#items.has(created);
  }

  get(created: string): Item | undefined {
    return this.#items.get(created);
  }

  putNext(): string | undefined {
    return this.#items.get(HEAD_CREATED)?.put_next?.S;
  }

  /** All versions, oldest first. */
  timed(): Timed[] {
    return [...this.#items.values()]
      .map(withTime)
      .filter((item) => item !== undefined)
      .filter(({ created }) => created !== HEAD_CREATED)
      .toSorted(compareCreated);
  }

  accepts({ input }: PutItemCommand | UpdateItemCommand): boolean {
    const key = "Item" in input ? input.Item : "Key" in input ? input.Key : undefined;
    const item = this.#items.get(createdOf(key ?? {})) ?? {};
    const { ConditionExpression: condition, ExpressionAttributeNames: names = {} } = input;
    if (condition === undefined) return true;
    const [, test, name = "", value = ""] =
      /^(attribute_exists|attribute_not_exists|(?=#))\(?(#\w+)\)?(?: = (:\w+))?$/.exec(condition) ?? [];
    const attribute = item[names[name] ?? ""];
    if (test === "attribute_exists") return attribute !== undefined;
    if (test === "attribute_not_exists") return attribute === undefined;
    if (test === "")
      return attribute !== undefined && attribute.S === input.ExpressionAttributeValues?.[value]?.S;
    throw new Error(`the model knows no condition ${condition}`);
  }

  carryOut(command: Command): Answer | Error {
    if (command instanceof QueryCommand) return this.#query(command.input);
    if (command instanceof PutItemCommand) {
      const item = command.input.Item ?? {};
      if (!this.accepts(command)) return this.#refusal(createdOf(item));
      this.#items.set(createdOf(item), item);
    } else if (command instanceof UpdateItemCommand) {
      if (!this.accepts(command)) return new GivenError("ConditionalCheckFailedException");
      const { Key: key = {}, UpdateExpression: update = "", ...input } = command.input;
      const created = createdOf(key);
      const changed = update
        .slice("SET ".length)
        .split(", ")
        .map((part) => part.split(" = "))
        .map(([name = "", value = ""]) => [
          input.ExpressionAttributeNames?.[name] ?? name,
          input.ExpressionAttributeValues?.[value],
        ]);
      this.#items.set(created, { ...key, ...this.#items.get(created), ...Object.fromEntries(changed) });
    } else {
      this.#items.delete(createdOf(command.input.Key ?? {}));
    }
    return {};
  }

  #refusal(created: string): Error {
    const Item = this.#givesOld ? this.get(created) : undefined;
    return new ConditionalCheckFailedException({ message: "", $metadata: {}, ...(Item && { Item }) });
  }

  #query(input: QueryCommandInput): Answer {
    const { ExpressionAttributeNames: names = {}, ExpressionAttributeValues: values = {} } = input;
    const from = textIn(values, ":from");
    const isBetween = input.KeyConditionExpression === "#key = :key AND #created BETWEEN :from AND :to";
    if (!isBetween && input.KeyConditionExpression !== "#key = :key AND #created >= :from")
      throw new Error(`the model knows no condition ${input.KeyConditionExpression}`);
    const to = isBetween ? textIn(values, ":to") : "~";
    if (from > to) throw new Error(`DynamoDB takes no range from ${from} to ${to}`);
    const start = input.ExclusiveStartKey && createdOf(input.ExclusiveStartKey);
    const isNewestFirst = input.ScanIndexForward === false;
    const limit = Math.min(input.Limit ?? Infinity, this.#pageSize);
    const createds = [...this.#items.keys()]
      .filter((created) => created >= from && created <= to)
      .filter((created) => start === undefined || (isNewestFirst ? created < start : created > start))
      .toSorted();
    const page = (isNewestFirst ? createds.toReversed() : createds).slice(0, limit);
    const last = page.length === limit ? page.at(-1) : undefined;
    const projected = input.ProjectionExpression?.split(", ").map((name) => names[name] ?? name);
    return {
      Items: page.map((created) => {
        const item = this.#items.get(created) ?? {};
        return projected ? Object.fromEntries(projected.flatMap((name) => attributeOf(item, name))) : item;
      }),
      LastEvaluatedKey: last === undefined ? undefined : { created: { S: last } },
    };
  }
}

function newReader(skew: number, cursor?: Timed): Reader {
  return { skew, startedStep: undefined, first: cursor, cursor, seen: new Set(), polls: [] };
}

/** Until nothing is left to run but what waits for an answer. */
function settled(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

function isGiven(error: unknown): boolean {
  return (
    error instanceof GivenError ||
    error instanceof ConditionalCheckFailedException ||
    (error instanceof Error && isGiven(error.cause))
  );
}

function createdOf(key: Item): string {
  return textIn(key, "created");
}

function textIn(attributes: Item, name: string): string {
  return attributes[name]?.S ?? "";
}

function attributeOf(item: Item, name: string): [string, AttributeValue][] {
  const attribute = item[name];
  return attribute ? [[name, attribute]] : [];
}

function describe(command: Command): string {
  if (command instanceof QueryCommand) {
    const { ExpressionAttributeValues: values = {}, ScanIndexForward, Limit = "" } = command.input;
    const direction = ScanIndexForward === false ? "newest" : "oldest";
    return `Query ${direction} ${Limit} from ${textIn(values, ":from")} to ${textIn(values, ":to")}`;
  }
  if (command instanceof PutItemCommand) return `PutItem ${createdOf(command.input.Item ?? {})}`;
  if (command instanceof UpdateItemCommand) {
    const { ExpressionAttributeValues: values = {} } = command.input;
    return `UpdateItem put_next from ${textIn(values, ":seen")} to ${textIn(values, ":place")}`;
  }
  return `DeleteItem ${createdOf(command.input.Key ?? {})}`;
}
