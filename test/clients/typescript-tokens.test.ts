// Where the TypeScript client's tokens come from, against the real broker: files that are rotated, exchanges that are
// renewed in time and had once for all who wait.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createClient } from "../../clients/typescript/src/index.ts";
import { type TestBroker, type World, furnish, made, startBroker } from "../harness/broker.ts";
import { AUDIENCE, issuerOf } from "../http/sign-in-kit.ts";
import { countedFetch, fakeClock } from "./typescript-kit.ts";

const MINUTE_MS = 60_000;

let broker: TestBroker;
let world: World;
let folder: string;

beforeAll(async () => {
  broker = await startBroker();
});
afterAll(() => broker.close());
beforeAll(async () => {
  world = await furnish(broker);
  folder = await mkdtemp(join(tmpdir(), "coffer-tokens-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const newToken = async (): Promise<{ id: string; token: string }> =>
  made(world.owner.api.post("/tokens", { body: { name: "rotated", principal_id: world.reader.id } }));
const revoke = ({ id }: { readonly id: string }) => made(world.owner.api.delete(`/tokens/${id}`));

describe("a token from a file", () => {
  it("is read again when the file has changed", async () => {
    const tokenFile = join(folder, "changed");
    const { fetch, calls } = countedFetch();
    const [one, two] = [await newToken(), await newToken()];
    await writeFile(tokenFile, `${one.token}\n`);
    const client = createClient({ url: broker.url, tokenFile, fetch });
    await client.getSettings("project", world.project.id);
    await writeFile(tokenFile, `${two.token}\n\n`);
    await client.getSettings("project", world.project.id);
    expect(calls.map(({ authorization }) => authorization)).toEqual([
      `Bearer ${one.token}`,
      `Bearer ${two.token}`,
    ]);
  });

  it("is kept while the file is being replaced, and asked for again at a 401", async () => {
    const tokenFile = join(folder, "missing");
    const one = await newToken();
    await writeFile(tokenFile, one.token);
    const client = createClient({ url: broker.url, tokenFile });
    await client.getSettings("project", world.project.id);
    await rm(tokenFile);
    await client.getSettings("project", world.project.id);
    await revoke(one);
    await expect(client.getSettings("project", world.project.id)).rejects.toMatchObject({ code: "no_token" });
    await writeFile(tokenFile, (await newToken()).token);
    await client.getSettings("project", world.project.id);
  });

  it("that is no longer good is not presented twice", async () => {
    const tokenFile = join(folder, "revoked");
    const one = await newToken();
    await writeFile(tokenFile, one.token);
    await revoke(one);
    const { fetch, calls } = countedFetch();
    const client = createClient({ url: broker.url, tokenFile, fetch });
    await expect(client.getSettings("project", world.project.id)).rejects.toMatchObject({ status: 401 });
    expect(calls).toHaveLength(1);
  });

  it("that is not there, or empty, is an error of its own", async () => {
    const missing = createClient({ url: broker.url, tokenFile: join(folder, "none") });
    await expect(missing.getSettings("project", world.project.id)).rejects.toMatchObject({
      code: "no_token",
    });
    await writeFile(join(folder, "empty"), "\n");
    const empty = createClient({ url: broker.url, tokenFile: join(folder, "empty") });
    await expect(empty.getSettings("project", world.project.id)).rejects.toMatchObject({ code: "no_token" });
  });
});

describe("a token from a function", () => {
  it("is asked for with each request, and once more at a 401", async () => {
    const [one, two] = [await newToken(), await newToken()];
    await revoke(one);
    const given = [one, two];
    const client = createClient({ url: broker.url, token: async () => (given.shift() ?? two).token });
    await client.getSettings("project", world.project.id);
    expect(given).toEqual([]);
  });
});

describe("an exchange", () => {
  /** A client whose exchanges and requests are counted, on a clock of its own. */
  const credentials = async () => {
    const { fetch, calls } = countedFetch();
    const time = fakeClock();
    const token = await newToken();
    const client = createClient({
      url: broker.url,
      exchange: { clientId: world.reader.id, clientSecret: token.token },
      fetch,
      clock: time.clock,
    });
    const count = (path: string) => calls.filter((call) => call.path === path).length;
    const list = () => client.getSettings("project", world.project.id);
    return { list, token, pass: time.pass, exchanges: () => count("/auth/token"), calls };
  };

  it("happens once for all who wait, and serves until shortly before it expires", async () => {
    const { list, pass, exchanges, calls } = await credentials();
    await Promise.all(Array.from({ length: 6 }, list));
    expect(exchanges()).toBe(1);
    pass(13 * MINUTE_MS);
    await list();
    expect(exchanges()).toBe(1);
    expect(new Set(calls.slice(1).map(({ authorization }) => authorization)).size).toBe(1);
  });

  it("is renewed before it expires, while nobody waits for it", async () => {
    const { list, pass, exchanges, calls } = await credentials();
    await list();
    pass(14.5 * MINUTE_MS);
    await Promise.all([list(), list()]);
    await expect.poll(exchanges).toBe(2);
    await expect
      .poll(async () => (await list(), new Set(calls.map(({ authorization }) => authorization)).size))
      .toBe(3);
    expect(exchanges()).toBe(2);
  });

  it("is waited for when the token has expired", async () => {
    const { list, pass, exchanges } = await credentials();
    await list();
    pass(16 * MINUTE_MS);
    await Promise.all([list(), list(), list()]);
    expect(exchanges()).toBe(2);
  });

  it("happens again at a 401, and its own refusal is told", async () => {
    const { list, token, exchanges } = await credentials();
    await list();
    await revoke(token);
    await expect(list()).rejects.toMatchObject({ name: "CofferError", status: 401, code: "invalid_client" });
    expect(exchanges()).toBe(2);
  });

  it("takes an identity provider's token from a file, read at each exchange, as RFC 8693 has it", async () => {
    const provider = issuerOf("https://ci.example.com");
    const sub = "repo:acme/models";
    await made(
      world.owner.api.post(`/organizations/${world.organization.id}/identity-providers`, {
        body: {
          issuer: provider.issuer,
          audience: AUDIENCE,
          jwks: provider.jwks,
          bindings: [{ claims: { sub }, service_account_id: world.writer.id }],
        },
      }),
    );
    const subjectTokenFile = join(folder, "subject");
    await writeFile(subjectTokenFile, provider.token({ sub: "repo:acme/others" }));
    const { clock } = fakeClock();
    const exchange = {
      clientId: world.writer.id,
      subjectTokenFile,
      scope: `list:project/${world.project.id}`,
    };
    const client = createClient({ url: broker.url, exchange, clock });
    await expect(client.getSettings("project", world.project.id)).rejects.toMatchObject({
      code: "invalid_grant",
    });
    await writeFile(subjectTokenFile, provider.token({ sub }));
    await client
      .put("project", world.project.id, "secret/Custom/x", { value: "v" })
      .catch((error: unknown) => {
        // `scope` only narrows: this one may list alone.
        expect(error).toMatchObject({ status: 403, reason: "token_scope" });
      });
    expect(await client.getSettings("project", world.project.id)).toEqual([]);
  });
});
