import { tmpdir } from "node:os";
import type { StartedTestContainer } from "testcontainers";
import type { Engine } from "./engine.ts";
import { stepsOf } from "./step.ts";

// Its container that clears up after others is none that everybody can pull; what is started here is stopped here.
process.env.TESTCONTAINERS_RYUK_DISABLED ??= "true";
const { GenericContainer, getContainerRuntimeClient, Wait } = await import("testcontainers");

/** Whether a Docker engine answers, both the library and the command. */
export const hasDocker = await Promise.all([getContainerRuntimeClient(), Bun.$`docker version`.quiet()]).then(
  () => true,
  () => false,
);

const ROOT = `${import.meta.dir}/../..`;
const started: StartedTestContainer[] = [];

/** A container whose root file system is read-only, and whose first process waits for what never comes on stdin. */
class IdleContainer extends GenericContainer {
  constructor(image: string) {
    super(image);
    this.createOpts.OpenStdin = true;
    this.hostConfig.ReadonlyRootfs = true;
  }
}

/** Builds the image of this tree, once, and gives its id; throws an Error with what the build says. */
export const buildImage = once(async () => {
  // Not by testcontainers, which takes a failed build for a done one when an older image has the tag.
  const build = await Bun.$`docker build --quiet ${ROOT}`
    // The client of a distribution comes with BuildKit; another one before it on the PATH may lack it.
    .env({ ...process.env, PATH: `/usr/bin:${process.env.PATH}`, DOCKER_BUILDKIT: "1" })
    .quiet()
    .nothrow();
  if (build.exitCode !== 0) throw new Error(`docker build failed:\n${build.stderr.toString()}`);
  return build.stdout.toString().trim();
});

const startImage = once(async () => {
  const container = await new IdleContainer(await buildImage())
    .withEntrypoint(["/opt/resource/check"])
    .withNetworkMode("host")
    .withBindMounts([{ source: tmpdir(), target: tmpdir() }])
    .start();
  started.push(container);
  return container;
});

/** The image's own binaries, run in one container that shares the network and the temporary folder of the host. */
export const image = stepsOf(async (step, { words = [], env = {}, cwd = "/" } = {}) => {
  const container = await startImage();
  const settings = Object.entries(env).flatMap(([name, value]) => ["--env", `${name}=${value}`]);
  const binary = `/opt/resource/${step}`;
  return {
    cmd: [
      "docker",
      "exec",
      "--interactive",
      "--workdir",
      cwd,
      ...settings,
      container.getId(),
      binary,
      ...words,
    ],
  };
});

/** Starts DynamoDB Local; every key and region sees the same tables. */
export const startDynamodbLocal = once(async (): Promise<Engine> => {
  const container = await new GenericContainer("amazon/dynamodb-local")
    .withCommand(["-jar", "DynamoDBLocal.jar", "-inMemory", "-sharedDb"])
    .withExposedPorts(8000)
    .withWaitStrategy(Wait.forHttp("/", 8000).forStatusCode(400))
    .start();
  started.push(container);
  return { endpoint: `http://127.0.0.1:${container.getMappedPort(8000)}` };
});

/** Stops what was started. */
export async function stopContainers(): Promise<void> {
  await Promise.all(started.map((container) => container.stop()));
}

function once<Result>(start: () => Promise<Result>): () => Promise<Result> {
  let result: Promise<Result> | undefined;
  return () => (result ??= start());
}
