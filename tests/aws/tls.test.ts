import { afterAll, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { createAuthority } from "../support/authority.ts";
import { startProxy } from "../support/proxy.ts";
import { describeSubjects } from "../support/subjects.ts";

const folder = await mkdtemp(`${tmpdir()}/tls-`);
afterAll(() => rm(folder, { recursive: true }));

const ca = await createAuthority("Tests");
const other = await createAuthority("Others");
const certificate = await ca.certify();

describeSubjects("an endpoint with a certificate of a private authority", ({ createTable, run }) => {
  const check = async (fields: Record<string, unknown>, env = {}) => {
    await using table = await createTable();
    await using proxy = startProxy(table.source.endpoint, () => undefined, certificate);
    const source = { ...table.source, endpoint: proxy.endpoint, ...fields };
    const { status, stdout, stderr } = await run("check", { source }, { env });
    return { status, answer: stdout.trim(), stderr };
  };

  test("is not trusted by default, and check says what to do", async () => {
    expect(await check({})).toEqual({
      status: 1,
      answer: "",
      stderr: [
        expect.stringMatching(
          /^the certificate of 127\.0\.0\.1:\d+ is not trusted \(\w+\): add its CA to source\.ca_certs/,
        ),
      ],
    });
  });

  test("is trusted with ca_certs", async () => {
    expect(await check({ ca_certs: [other.cert, ca.cert] })).toEqual({
      status: 0,
      answer: "[]",
      stderr: [],
    });
  });

  test("is trusted with the worker's certificates, with ca_certs besides", async () => {
    await writeFile(`${folder}/ca.pem`, ca.cert);
    const env = { SSL_CERT_FILE: `${folder}/ca.pem` };
    expect(await check({}, env)).toEqual({ status: 0, answer: "[]", stderr: [] });
    expect(await check({ ca_certs: [other.cert] }, env)).toEqual({
      status: 0,
      answer: "[]",
      stderr: [],
    });
  });
});
