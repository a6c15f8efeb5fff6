// Which tokens are vouched for, with which keys, and which providers can be kept. Keys are given inline here; how they
// are fetched is in jwks.test.ts.
import { describe, expect, test, vi } from "vitest";
import { BrokerError } from "../../src/domain/errors.ts";
import type { TrustedIssuer } from "../../src/domain/federation-ports.ts";
import {
  AUDIENCE,
  ISSUER,
  at,
  base64url,
  ecKey,
  edKey,
  goodClaims,
  inline,
  jwkOf,
  nowSeconds,
  rsaKey,
  tokenBy,
  verifierWith,
} from "./foreign.ts";

const { verifier } = verifierWith();
const rsa = rsaKey();
const ec = ecKey();
const ed = edKey();
const stranger = { ...rsaKey("rsa") };
const provider = inline(rsa, ec, ed);

const vouched = async (token: string, ...providers: readonly TrustedIssuer[]): Promise<number> =>
  (await verifier.verify(providers.length === 0 ? [provider] : providers, token)).length;

const withInline = (...jwks: readonly unknown[]): TrustedIssuer => ({
  ...provider,
  jwks: { keys: jwks as Record<string, unknown>[] },
});

describe("keys that are given inline", () => {
  test("are gone through once as long as they stay in memory, whatever tokens come", async () => {
    const toJSON = vi.fn<() => unknown>(() => ({ keys: provider.jwks?.keys }));
    const kept: TrustedIssuer = {
      ...provider,
      jwks: Object.defineProperty({ keys: provider.jwks?.keys ?? [] }, "toJSON", { value: toJSON }),
    };
    for (let n = 0; n < 3; n++) {
      expect(await vouched(tokenBy(rsa), kept)).toBe(1);
      expect(await vouched(tokenBy(stranger), kept)).toBe(0);
    }
    expect(toJSON).toHaveBeenCalledTimes(1);
  });
});

describe("a good token", () => {
  test("is vouched for, with its subject, claims and end", async () => {
    const claims = { repository: "acme/train", nested: { deep: [1] } };
    expect(await verifier.verify([provider], tokenBy(rsa, claims))).toEqual([
      {
        provider,
        identity: {
          issuer: ISSUER,
          subject: "repo:acme/train:ref:refs/heads/main",
          claims: { ...goodClaims(), ...claims },
          expires_at: new Date((nowSeconds() + 300) * 1_000),
        },
      },
    ]);
  });

  test.each([
    ["RS256", rsa],
    ["RS384", rsa],
    ["RS512", rsa],
    ["PS256", rsa],
    ["PS384", rsa],
    ["PS512", rsa],
    ["ES256", ec],
    ["ES384", ecKey("384", "P-384")],
    ["ES512", ecKey("521", "P-521")],
    ["EdDSA", ed],
  ] as const)("may be signed with %s", async (alg, key) => {
    expect(await vouched(tokenBy(key, {}, { alg }), inline(key))).toBe(1);
  });

  test.each([
    ["an audience among others", { aud: ["https://else.example", AUDIENCE] }, {}],
    ["no typ", {}, { typ: undefined }],
    ["typ at+jwt", {}, { typ: "at+jwt" }],
    ["typ in full and in capitals", {}, { typ: "application/JWT" }],
    ["header members that say nothing of keys", {}, { x5t: "abc", "x5t#S256": "abc" }],
    ["no nbf and no iat", { nbf: undefined, iat: undefined }, {}],
    ["a begin that our clock is a little behind", { nbf: nowSeconds() + 60, iat: nowSeconds() + 60 }, {}],
    ["the year that Kubernetes gives", { exp: nowSeconds() + 365 * 86_400 }, {}],
    ["a subject of 512 characters", { sub: "é".repeat(512) }, {}],
  ] as const)("may have %s", async (_name, claims, header) => {
    expect(await vouched(tokenBy(rsa, claims, header))).toBe(1);
  });

  test("without a kid is tried with the keys that fit, of a small set only", async () => {
    const token = tokenBy(rsa, {}, { kid: undefined });
    const others = [1, 2, 3, 4, 5].map((count) => ecKey(`other-${count}`));
    expect(await vouched(token, inline(ec, rsa))).toBe(1);
    expect(await vouched(token, inline(...others.slice(0, 4), rsa))).toBe(1);
    expect(await vouched(token, inline(...others, rsa))).toBe(0);
  });

  test("is vouched for by every provider that trusts the key, and by no other", async () => {
    const first = inline(rsa);
    const second = { ...inline(rsa), note: "mine" };
    const strange = inline(stranger);
    const elsewhere = { ...inline(rsa), audience: "https://else.example" };
    const found = await verifier.verify([strange, first, elsewhere, second], tokenBy(rsa));
    expect(found.map((each) => each.provider)).toEqual([first, second]);
  });

  test("keeps both keys of one kid in mind", async () => {
    const twin = rsaKey(rsa.kid);
    expect(await vouched(tokenBy(rsa), inline(twin, rsa))).toBe(1);
    expect(await vouched(tokenBy(twin), inline(twin, rsa))).toBe(1);
    expect(await vouched(tokenBy(rsa), inline(ecKey(rsa.kid), rsa))).toBe(1);
  });
});

describe("a key is not used when it", () => {
  test.each([
    ["is RSA of 1024 bits", () => [rsaKey("k", 1_024), {}] as const],
    ["is for encryption", () => [rsaKey("k"), { use: "enc" }] as const],
    ["may only sign or wrap", () => [rsaKey("k"), { key_ops: ["wrapKey"] }] as const],
    ["is for another algorithm", () => [rsaKey("k"), { alg: "PS256" }] as const],
    ["is for no algorithm of signatures", () => [rsaKey("k"), { alg: "RSA-OAEP" }] as const],
    ["has an exponent of 1", () => [rsaKey("k"), { e: "AQ" }] as const],
    ["has an even exponent", () => [rsaKey("k"), { e: "Ag" }] as const],
    ["has a huge exponent", () => [rsaKey("k"), { e: base64url(Buffer.alloc(200, 0xff)) }] as const],
    ["is a point off its curve", () => [ecKey("k"), { x: base64url(Buffer.alloc(32, 1)) }] as const],
    ["names another curve", () => [ecKey("k"), { crv: "P-384" }] as const],
    ["is on a curve of no use here", () => [ecKey("k", "secp256k1"), {}] as const],
    ["has a kid that is no text", () => [rsaKey("k"), { kid: 7 }] as const],
    ["is private", () => [rsaKey("k"), { d: "AQAB" }] as const],
  ])("%s", async (_name, make) => {
    const [key, more] = make();
    const alg = key.publicKey.asymmetricKeyType === "rsa" ? "RS256" : "ES256";
    const token = tokenBy(key, {}, { alg });
    expect(await vouched(token, withInline(jwkOf(key, more)))).toBe(0);
    // And beside one that is good, that one is used.
    expect(await vouched(tokenBy(rsa), withInline(jwkOf(key, more), jwkOf(rsa)))).toBe(1);
  });

  test("is for signatures it is used", async () => {
    const jwk = jwkOf(rsa, { use: "sig", alg: "RS256", key_ops: ["verify"], x5c: ["never read"] });
    expect(await vouched(tokenBy(rsa), withInline(jwk))).toBe(1);
  });

  test("stands among things that are no keys, those are passed over", async () => {
    const provider = withInline(
      null,
      1,
      "x",
      [],
      {},
      { kty: "RSA" },
      { kty: "RSA", n: 1, e: [] },
      jwkOf(rsa),
    );
    expect(await vouched(tokenBy(rsa), provider)).toBe(1);
  });
});

const problemOf = (given: Partial<TrustedIssuer>): BrokerError | null => {
  try {
    verifier.assertUsable({ ...provider, ...given });
    return null;
  } catch (error) {
    if (error instanceof BrokerError) return error;
    throw error;
  }
};
const keys = (...jwks: readonly unknown[]): Partial<TrustedIssuer> => ({ jwks: withInline(...jwks).jwks });
const uri = (jwks_uri: string): Partial<TrustedIssuer> => ({ jwks_uri, jwks: null });

describe("a provider can be used", () => {
  test.each<readonly [string, Partial<TrustedIssuer>]>([
    ["keys inline", {}],
    ["one good key among others", keys(jwkOf(rsaKey("k", 1_024)), jwkOf(rsa))],
    ["a set by https", uri("https://issuer.example/keys")],
    ["another port", uri("https://issuer.example:8443/keys?version=1")],
    ["http to this machine, where that is allowed", uri("http://127.0.0.1:8080/keys")],
    ["localhost, where that is allowed", uri("http://localhost:8080/keys")],
    ["an issuer that is no URL", { issuer: "kubernetes/serviceaccount" }],
  ])("with %s", (_name, given) => {
    expect(problemOf(given)).toBeNull();
  });

  test.each<readonly [string, string, Partial<TrustedIssuer>]>([
    ["an empty issuer", "/issuer", { issuer: "" }],
    ["an issuer with a line break", "/issuer", { issuer: "https://a\n" }],
    ["a long issuer", "/issuer", { issuer: "x".repeat(513) }],
    ["an empty audience", "/audience", { audience: "" }],
    ["an audience with a space", "/audience", { audience: "a b" }],
    ["neither keys nor an address", "/jwks_uri", { jwks: null }],
    ["both", "/jwks_uri", { jwks_uri: "https://issuer.example/keys" }],
    ["no keys", "/jwks", keys()],
    ["no list of keys", "/jwks", { jwks: {} as TrustedIssuer["jwks"] }],
    ["a private RSA key", "/jwks", keys(rsa.privateKey.export({ format: "jwk" }))],
    [
      "a private EC key beside a public one",
      "/jwks",
      keys(jwkOf(rsa), ec.privateKey.export({ format: "jwk" })),
    ],
    ["a private Ed25519 key", "/jwks", keys(ed.privateKey.export({ format: "jwk" }))],
    ["a symmetric key", "/jwks", keys(jwkOf(rsa), { kty: "oct", k: "c2VjcmV0" })],
    ["a weak key alone", "/jwks", keys(jwkOf(rsaKey("k", 1_024)))],
    [
      "a key of more bits than are worth verifying",
      "/jwks",
      keys(jwkOf(rsa, { n: base64url(Buffer.alloc(1_025, 0xff)) })),
    ],
    ["an RSA exponent of 1, by which all is signed", "/jwks", keys(jwkOf(rsa, { e: "AQ" }))],
    ["an even RSA exponent", "/jwks", keys(jwkOf(rsa, { e: base64url(Buffer.from([1, 0, 0])) }))],
    [
      "an RSA exponent that makes verifying slow",
      "/jwks",
      keys(jwkOf(rsa, { e: base64url(Buffer.alloc(5, 0xff)) })),
    ],
    ["a key for encryption alone", "/jwks", keys(jwkOf(rsa, { use: "enc" }))],
    ["too many keys", "/jwks", keys(...Array.from({ length: 33 }, () => jwkOf(rsa)))],
    ["no URL", "/jwks_uri", uri("issuer.example/keys")],
    ["plain http", "/jwks_uri", uri("http://issuer.example/keys")],
    ["a file", "/jwks_uri", uri("file:///etc/passwd")],
    ["data", "/jwks_uri", uri("data:application/json,{}")],
    ["a user in the URL", "/jwks_uri", uri("https://user@issuer.example/keys")],
    ["a password in the URL", "/jwks_uri", uri("https://:secret@issuer.example/keys")],
    ["a private address", "/jwks_uri", uri("https://10.0.0.1/keys")],
    ["the address of a cloud's metadata", "/jwks_uri", uri("https://169.254.169.254/keys")],
    ["a long URL", "/jwks_uri", uri(`https://issuer.example/${"x".repeat(2_048)}`)],
  ])("but not with %s", (_name, pointer, given) => {
    const problem = problemOf(given);
    expect(problem?.code).toBe("invalid_value");
    expect(problem?.fields.errors).toMatchObject([{ in: "body", pointer }]);
  });

  test("and what is told of a bad one quotes none of it", () => {
    const jwk = rsa.privateKey.export({ format: "jwk" });
    const problems = [problemOf(keys(jwk)), problemOf(uri("https://user:hunter2@10.0.0.1/"))];
    expect(problems.every((problem) => problem !== null && problem.cause === undefined)).toBe(true);
    expect(JSON.stringify(problems.map((problem) => [problem, String(problem)]))).not.toMatch(
      new RegExp(`hunter2|10\\.0\\.0\\.1|${jwk.d}|${jwk.n}`),
    );
  });
});

test("no key is asked for, for a token that could not be good or is meant for nobody here", async () => {
  const asked: string[] = [];
  const { verifier } = verifierWith({
    resolve: async (name) => {
      asked.push(name);
      return [];
    },
  });
  const remote = at("https://issuer.example/keys");
  for (const claims of [{ iss: "https://else.example" }, { aud: "else" }, { exp: 1 }, { sub: "" }])
    expect(await verifier.verify([remote], tokenBy(rsa, claims))).toEqual([]);
  expect(await verifier.verify([remote], tokenBy(rsa, {}, { typ: "logout+jwt" }))).toEqual([]);
  expect(await verifier.verify([], tokenBy(rsa))).toEqual([]);
  expect(asked).toEqual([]);
  expect(await verifier.verify([remote], tokenBy(rsa))).toEqual([]);
  expect(asked).toEqual(["issuer.example"]);
});

test("of many providers only twenty are tried", async () => {
  const providers = Array.from({ length: 21 }, () => inline(rsa));
  expect(await vouched(tokenBy(rsa), ...providers)).toBe(20);
});

test("nothing is written anywhere, of good tokens and bad", async () => {
  const writes = [vi.spyOn(process.stdout, "write"), vi.spyOn(process.stderr, "write")];
  const token = tokenBy(rsa);
  await vouched(token);
  await vouched(tokenBy(stranger));
  await vouched(`${token}x`);
  const [, claims = "nothing"] = token.split(".");
  for (const write of writes) expect(JSON.stringify(write.mock.calls)).not.toContain(claims.slice(0, 40));
});
