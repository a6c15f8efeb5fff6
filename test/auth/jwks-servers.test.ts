// Providers whose keys come from real servers on loopback: what a bad one does harms nobody but itself.
import { expect, test } from "vitest";
import {
  type Key,
  answerJson,
  at,
  clock,
  ecKey,
  edKey,
  goodClaims,
  nowSeconds,
  rsaKey,
  serverOn,
  setOf,
  tokenBy,
  verifierWith,
} from "./foreign.ts";

const key = edKey("first");
const hour = () => ({ exp: nowSeconds() + 7_200, iat: nowSeconds(), nbf: nowSeconds() });
const goodServer = (...keys: readonly Key[]) => serverOn(answerJson(() => setOf(...keys)));

test.each([
  ["RSA", rsaKey()],
  ["EC", ecKey()],
  ["Ed25519", edKey()],
])("a token is vouched for by an %s key at an address", async (_name, key) => {
  const { verifier } = verifierWith();
  await using server = await goodServer(key);
  const provider = at(server.url);
  expect(await verifier.verify([provider], tokenBy(key))).toMatchObject([{ provider }]);
  expect(await verifier.verify([provider], tokenBy(key))).toHaveLength(1);
  expect(server.requests()).toBe(1);
});

test("a provider whose server hangs, drips or floods harms nobody but itself", async () => {
  const deadline = new AbortController();
  const { verifier, flaws } = verifierWith({ deadline: () => deadline.signal });
  await using silent = await serverOn(() => undefined);
  await using dripping = await serverOn((_request, response) => {
    const drip = (): void => {
      if (!response.destroyed) response.write(" ", () => setImmediate(drip));
    };
    drip();
  });
  await using flooding = await serverOn((_request, response) => {
    response.on("error", () => undefined).end(Buffer.alloc(10_000_000, " "));
  });
  await using good = await goodServer(key);
  const token = tokenBy(key);
  const harmed = [silent, dripping].map(async ({ url, asked }) => {
    const arrived = asked();
    const outcome = verifier.verify([at(url)], token);
    await arrived;
    return { outcome };
  });
  const begun = await Promise.all(harmed);
  expect(await verifier.verify([at(flooding.url)], token)).toEqual([]);
  // Two are still under way; others are served, as often as they like.
  for (let count = 0; count < 10; count++)
    expect(await verifier.verify([at(good.url)], token)).toHaveLength(1);
  deadline.abort();
  for (const { outcome } of begun) expect(await outcome).toEqual([]);
  expect(flaws).toEqual(["size", "time", "time"]);
  expect(await verifier.verify([at(good.url)], token)).toHaveLength(1);
});

test("a fetch ends by itself, though nobody says so", async () => {
  const { verifier, flaws } = verifierWith();
  await using server = await serverOn(() => undefined);
  expect(await verifier.verify([at(server.url)], tokenBy(key))).toEqual([]);
  expect(flaws).toEqual(["time"]);
});

test("a redirect to a private address, or to any, leads nowhere", async () => {
  const { verifier, flaws } = verifierWith();
  await using target = await goodServer(key);
  for (const location of ["http://169.254.169.254/latest/meta-data/", target.url, "/elsewhere"]) {
    await using server = await serverOn((_request, response) => response.writeHead(302, { location }).end());
    expect(await verifier.verify([at(server.url)], tokenBy(key))).toEqual([]);
    expect(server.requests()).toBe(1);
  }
  expect(target.requests()).toBe(0);
  expect(flaws).toEqual(["status", "status", "status"]);
});

test("a name that resolves to a private address is not asked", async () => {
  const { verifier, flaws } = verifierWith({ allowedPrivate: [], resolve: async () => ["10.0.0.7"] });
  expect(await verifier.verify([at("https://issuer.example/keys")], tokenBy(key))).toEqual([]);
  expect(flaws).toEqual(["address"]);
});

test("loopback is not asked where it is not allowed", async () => {
  const { verifier, flaws } = verifierWith({ allowedPrivate: [] });
  await using server = await goodServer(key);
  expect(await verifier.verify([at(server.url)], tokenBy(key))).toEqual([]);
  expect(flaws).toEqual(["address"]);
  expect(server.requests()).toBe(0);
});

test("keys are turned over: a token by the new key is good at once, one by the old no longer", async () => {
  const { verifier } = verifierWith();
  const next = edKey("second");
  const published = [key];
  await using server = await serverOn(answerJson(() => setOf(...published)));
  const provider = at(server.url);
  expect(await verifier.verify([provider], tokenBy(key))).toHaveLength(1);
  published.splice(0, 1, next);
  expect(await verifier.verify([provider], tokenBy(next))).toHaveLength(1);
  expect(await verifier.verify([provider], tokenBy(key))).toEqual([]);
  expect(server.requests()).toBe(2);
});

test("a server that is down after being up: its keys are good for an hour", async () => {
  const { verifier, flaws } = verifierWith();
  const server = await goodServer(key);
  const provider = at(server.url);
  expect(await verifier.verify([provider], tokenBy(key))).toHaveLength(1);
  await server.stop();
  clock.pass(1_800);
  expect(await verifier.verify([provider], tokenBy(key))).toHaveLength(1);
  expect(flaws).toEqual(["connection"]);
  clock.pass(1_800);
  expect(await verifier.verify([provider], tokenBy(key))).toEqual([]);
});

test("two providers of one issuer, each with its own address and keys", async () => {
  const { verifier } = verifierWith();
  const other = edKey("first");
  await using mine = await goodServer(key);
  await using theirs = await goodServer(other);
  const providers = [at(mine.url), at(theirs.url)];
  expect((await verifier.verify(providers, tokenBy(key))).map(({ provider }) => provider)).toEqual([
    providers[0],
  ]);
  expect((await verifier.verify(providers, tokenBy(other))).map(({ provider }) => provider)).toEqual([
    providers[1],
  ]);
});

test("a private key in a set that is fetched vouches for nothing", async () => {
  const { verifier } = verifierWith();
  await using server = await serverOn(
    answerJson(() => ({ keys: [{ ...key.privateKey.export({ format: "jwk" }), kid: "first" }] })),
  );
  expect(await verifier.verify([at(server.url)], tokenBy(key))).toEqual([]);
});

test("the identity's end is the token's own", async () => {
  const { verifier } = verifierWith();
  await using server = await goodServer(key);
  const [found] = await verifier.verify([at(server.url)], tokenBy(key, hour()));
  expect(found?.identity.expires_at).toEqual(new Date((nowSeconds() + 7_200) * 1_000));
  expect(found?.identity.claims).toEqual({ ...goodClaims(), ...hour() });
});
