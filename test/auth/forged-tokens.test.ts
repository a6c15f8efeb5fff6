// Every forged token by name: whoever has none of a provider's private keys is nobody.
import { createHmac, sign as signBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { TrustedIssuer } from "../../src/domain/federation-ports.ts";
import {
  base64url,
  ecKey,
  edKey,
  goodClaims,
  inline,
  jwkOf,
  rsaKey,
  signature,
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

describe("a forged token is nobody's:", () => {
  const payload = base64url(JSON.stringify(goodClaims()));

  test.each(["none", "None", "nOnE", "NONE", "", "none "])("algorithm %j, unsigned", async (alg) => {
    const head = base64url(JSON.stringify({ alg, typ: "JWT", kid: rsa.kid }));
    expect(await vouched(`${head}.${payload}.`)).toBe(0);
    expect(await vouched(`${head}.${payload}`)).toBe(0);
    expect(await vouched(`${head}.${payload}.${base64url("x")}`)).toBe(0);
  });

  test.each(["HS256", "HS384", "HS512"])("%s with the public key as the secret", async (alg) => {
    const secrets = [
      rsa.publicKey.export({ format: "pem", type: "spki" }),
      rsa.publicKey.export({ format: "pem", type: "pkcs1" }),
      rsa.publicKey.export({ format: "der", type: "spki" }),
      JSON.stringify(jwkOf(rsa)),
    ];
    const input = `${base64url(JSON.stringify({ alg, typ: "JWT", kid: rsa.kid }))}.${payload}`;
    for (const secret of secrets) {
      const mac = createHmac(`sha${alg.slice(2)}`, secret)
        .update(input)
        .digest("base64url");
      expect(await vouched(`${input}.${mac}`)).toBe(0);
    }
  });

  test("HS256 with a symmetric key that the provider published", async () => {
    const k = base64url("0123456789abcdef0123456789abcdef");
    const input = `${base64url(JSON.stringify({ alg: "HS256", kid: "oct" }))}.${payload}`;
    const mac = createHmac("sha256", Buffer.from(k, "base64url")).update(input).digest("base64url");
    expect(await vouched(`${input}.${mac}`, withInline({ kty: "oct", k, kid: "oct", alg: "HS256" }))).toBe(0);
  });

  test.each([
    ["jwk", () => ({ jwk: jwkOf(stranger) })],
    ["jwk, of the right kid", () => ({ jwk: { ...jwkOf(stranger), kid: rsa.kid } })],
    ["jku", () => ({ jku: "https://evil.example/jwks" })],
    ["x5u", () => ({ x5u: "https://evil.example/cert" })],
    ["x5c", () => ({ x5c: [stranger.publicKey.export({ format: "der", type: "spki" }).toString("base64")] })],
    ["crit", () => ({ crit: ["exp"] })],
    ["b64", () => ({ b64: false, crit: ["b64"] })],
    ["zip", () => ({ zip: "DEF" })],
  ])("header member %s, whoever signed it", async (_name, header) => {
    expect(await vouched(tokenBy(stranger, {}, header()))).toBe(0);
    expect(await vouched(tokenBy(rsa, {}, header()))).toBe(0);
  });

  test.each([
    "../../dev/null",
    "/dev/null",
    "../../../../etc/passwd",
    "' OR '1'='1",
    "rsa' UNION SELECT 'key",
    "rsa; cat /etc/passwd",
    "rsa\u0000",
    "RSA",
    "rsа",
    "",
    "__proto__",
    "k".repeat(5_000),
  ])("kid %j", async (kid) => {
    expect(await vouched(tokenBy(rsa, {}, { kid }))).toBe(0);
    expect(await vouched(tokenBy(stranger, {}, { kid }))).toBe(0);
  });

  test.each([0, null, ["rsa"], { kid: "rsa" }, true])("kid that is no text: %j", async (kid) => {
    expect(await vouched(tokenBy(rsa, {}, { kid }))).toBe(0);
  });

  test("signed with another's key under the right kid", async () => {
    expect(await vouched(tokenBy(stranger))).toBe(0);
  });

  test("signed by another provider, also of the same organization", async () => {
    const other = { ...inline(stranger), issuer: "https://other.example" };
    expect(await vouched(tokenBy(stranger), provider, other)).toBe(0);
    expect(await vouched(tokenBy(stranger, { iss: "https://other.example" }), provider, other)).toBe(1);
  });

  test("stripped of its signature", async () => {
    const [head, claims] = tokenBy(rsa).split(".");
    for (const token of [`${head}.${claims}.`, `${head}.${claims}`, `${head}..`, `${head}`])
      expect(await vouched(token)).toBe(0);
  });

  test("with the signature of another good token", async () => {
    const [head, claims] = tokenBy(rsa, { sub: "somebody" }).split(".");
    const [, , other] = tokenBy(rsa).split(".");
    expect(await vouched(`${head}.${claims}.${other}`)).toBe(0);
  });

  test("with any one character changed", async () => {
    const token = tokenBy(ed);
    await fc.assert(
      fc.asyncProperty(
        fc.nat(token.length - 1),
        fc.constantFrom(..."Aa0-_.=+/ ".split("")),
        async (index, character) => {
          fc.pre(token[index] !== character);
          expect(await vouched(`${token.slice(0, index)}${character}${token.slice(index + 1)}`)).toBe(0);
        },
      ),
      { numRuns: 500 },
    );
  });

  test("ES256 with a signature of all noughts", async () => {
    const [head, claims] = tokenBy(ec).split(".");
    for (const length of [64, 0, 1, 63, 65, 128])
      expect(await vouched(`${head}.${claims}.${base64url(Buffer.alloc(length))}`)).toBe(0);
  });

  test("ES256 with r or s nought, or of the curve's order", async () => {
    const [head, claims, good = ""] = tokenBy(ec).split(".");
    const order = Buffer.from("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", "hex");
    const bytes = Buffer.from(good, "base64url");
    const [r, s] = [bytes.subarray(0, 32), bytes.subarray(32)];
    const nought = Buffer.alloc(32);
    for (const parts of [
      [nought, s],
      [r, nought],
      [order, s],
      [r, order],
      [order, order],
    ] as const)
      expect(await vouched(`${head}.${claims}.${base64url(Buffer.concat(parts))}`)).toBe(0);
  });

  test("ES256 signed in DER instead of the raw form", async () => {
    const [head, claims] = tokenBy(ec).split(".");
    const der = signBytes("sha256", Buffer.from(`${head}.${claims}`), ec.privateKey);
    expect(await vouched(`${head}.${claims}.${base64url(der)}`)).toBe(0);
  });

  test.each([
    ["ES256 by an RSA key", "ES256", rsa],
    ["ES384 by a P-256 key", "ES384", ec],
    ["RS256 by an EC key", "RS256", ec],
    ["EdDSA by an EC key", "EdDSA", ec],
    ["ES256 by an Ed25519 key", "ES256", ed],
    ["PS256 that was signed as RS256", "PS256", rsa],
  ] as const)("algorithm that does not fit the key: %s", async (_name, alg, key) => {
    const head = base64url(JSON.stringify({ alg, typ: "JWT", kid: key.kid }));
    const input = `${head}.${payload}`;
    const own = key === rsa ? "RS256" : key === ec ? "ES256" : "EdDSA";
    expect(await vouched(`${input}.${base64url(signature(own, key.privateKey, input))}`)).toBe(0);
  });

  test.each([
    "RS1",
    "rs256",
    "RS256 ",
    "ES256K",
    "Ed448",
    "RSA-OAEP",
    "dir",
    256,
    null,
    ["RS256"],
    undefined,
  ])("algorithm %j, unknown or ill-formed", async (alg) => {
    const head = base64url(JSON.stringify({ alg, typ: "JWT", kid: rsa.kid }));
    const input = `${head}.${payload}`;
    expect(await vouched(`${input}.${base64url(signature("RS256", rsa.privateKey, input))}`)).toBe(0);
  });
});
