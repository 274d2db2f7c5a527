import { expect, test } from "bun:test";

const root = `${import.meta.dir}/../..`;

test("the demo's commands run as they are shown, while --keep leaves the table up", async () => {
  const demo = Bun.spawn(["bun", "tests/support/demo.ts", "--keep"], { cwd: root, stdout: "pipe" });
  let shown = "";
  for await (const chunk of demo.stdout.pipeThrough(new TextDecoderStream())) {
    shown += chunk;
    if (shown.includes("until you press Ctrl-C")) break;
  }
  expect(shown).not.toContain("\x1b");
  expect(shown.match(/secret_key/g)).toHaveLength(1);
  const commands = shown.match(/^source='.*'$|^dist\/(out|check|in) .*<<JSON\n.*\nJSON$/gm) ?? [];
  expect(commands).toHaveLength(7);

  const shell = Bun.spawn(["sh", "-e"], {
    cwd: root,
    stdin: new TextEncoder().encode(`${commands.join("\n")}\n`),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all([shell.stdout.text(), shell.stderr.text()]);
  expect({ status: await shell.exited, stderr }).toEqual({ status: 0, stderr: "" });
  const answers = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  // The three puts of the demo itself, and the same three again.
  expect(answers[3].map(({ value }: { value: string }) => value).join(" ")).toBe(
    "package-1.0 package-1.1 package-1.2 package-1.0 package-1.1 package-1.2",
  );

  demo.kill("SIGTERM");
  expect(await demo.exited).toBe(0);
});
