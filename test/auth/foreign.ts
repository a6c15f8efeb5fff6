// What the tests of foreign identities stand on: keys and tokens made with node:crypto alone, so that the library under
// test does not vouch for itself, and real servers on loopback that answer as the test says.
import {
  type JsonWebKey,
  type KeyObject,
  constants,
  generateKeyPairSync,
  sign as signBytes,
} from "node:crypto";
import { once } from "node:events";
import { type IncomingMessage, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { IdentityVerifierOptions } from "../../src/auth/foreign-identity.ts";
import { createIdentityVerifier } from "../../src/auth/foreign-identity.ts";
import type { TrustedIssuer } from "../../src/domain/federation-ports.ts";
import { testClock } from "../sealing/fixture.ts";

export const ISSUER = "https://issuer.example";
export const AUDIENCE = "https://coffer.example";
export const LOOPBACK = ["127.0.0.0/8"];

export type Key = { readonly kid: string; readonly privateKey: KeyObject; readonly publicKey: KeyObject };

export function rsaKey(kid = "rsa", modulusLength = 2_048): Key {
  return { kid, ...generateKeyPairSync("rsa", { modulusLength }) };
}

export function ecKey(kid = "ec", namedCurve = "P-256"): Key {
  return { kid, ...generateKeyPairSync("ec", { namedCurve }) };
}

export function edKey(kid = "ed"): Key {
  return { kid, ...generateKeyPairSync("ed25519") };
}

export function jwkOf({ kid, publicKey }: Key, more: Readonly<Record<string, unknown>> = {}): JsonWebKey {
  return { ...publicKey.export({ format: "jwk" }), kid, ...more };
}

export const setOf = (...keys: readonly Key[]): { readonly keys: readonly JsonWebKey[] } => ({
  keys: keys.map((key) => jwkOf(key)),
});

export const base64url = (data: string | Uint8Array): string => Buffer.from(data).toString("base64url");

/** Signs as RFC 7518 says for `alg`. */
export function signature(alg: string, key: KeyObject, input: string): Buffer {
  const data = Buffer.from(input);
  const hash = `sha${alg.slice(2)}`;
  if (alg === "EdDSA") return signBytes(null, data, key);
  if (alg.startsWith("ES")) return signBytes(hash, data, { key, dsaEncoding: "ieee-p1363" });
  if (alg.startsWith("RS")) return signBytes(hash, data, key);
  const padding = constants.RSA_PKCS1_PSS_PADDING;
  return signBytes(hash, data, { key, padding, saltLength: Number(alg.slice(2)) / 8 });
}

/** A token of texts that are given as they are, well-formed or not. */
export function rawToken(alg: string, key: KeyObject, header: string, claims: string): string {
  const input = `${base64url(header)}.${base64url(claims)}`;
  return `${input}.${base64url(signature(alg, key, input))}`;
}

export const clock = testClock();
export const nowSeconds = (): number => Math.floor(clock.now().getTime() / 1_000);

export const goodClaims = (): Record<string, unknown> => ({
  iss: ISSUER,
  aud: AUDIENCE,
  sub: "repo:acme/train:ref:refs/heads/main",
  iat: nowSeconds(),
  nbf: nowSeconds(),
  exp: nowSeconds() + 300,
});

const algorithmOf = ({ publicKey: { asymmetricKeyType, asymmetricKeyDetails } }: Key): string => {
  if (asymmetricKeyType === "rsa") return "RS256";
  if (asymmetricKeyType === "ed25519") return "EdDSA";
  const curve = asymmetricKeyDetails?.namedCurve;
  return curve === "secp384r1" ? "ES384" : curve === "secp521r1" ? "ES512" : "ES256";
};

/** A good token, but for what is given; a member that is undefined is left out. */
export function tokenBy(
  key: Key,
  claims: Readonly<Record<string, unknown>> = {},
  header: Readonly<Record<string, unknown>> = {},
): string {
  const alg = typeof header["alg"] === "string" ? header["alg"] : algorithmOf(key);
  const head = { alg, typ: "JWT", kid: key.kid, ...header };
  return rawToken(alg, key.privateKey, JSON.stringify(head), JSON.stringify({ ...goodClaims(), ...claims }));
}

export function inline(...keys: readonly Key[]): TrustedIssuer {
  return {
    issuer: ISSUER,
    audience: AUDIENCE,
    jwks_uri: null,
    jwks: setOf(...keys),
  };
}

export function at(jwks_uri: string, issuer = ISSUER): TrustedIssuer {
  return { issuer, audience: AUDIENCE, jwks_uri, jwks: null };
}

export function verifierWith(options: Partial<IdentityVerifierOptions> = {}) {
  const flaws: string[] = [];
  const verifier = createIdentityVerifier({
    clock,
    allowedPrivate: LOOPBACK,
    onFetchFailure: (_host, flaw) => flaws.push(flaw),
    ...options,
  });
  return { verifier, flaws };
}

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

export const answerJson =
  (document: () => unknown): Answer =>
  (_request, response) => {
    response.setHeader("content-type", "application/json").end(JSON.stringify(document()));
  };

/** A server on loopback; `use` it so that it is gone with the test. */
export async function serverOn(answer: Answer) {
  let requests = 0;
  const server = createServer((request, response) => {
    requests += 1;
    answer(request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `http://127.0.0.1:${port}/jwks`,
    requests: () => requests,
    asked: () => once(server, "request"),
    async stop() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
    async [Symbol.asyncDispose]() {
      if (server.listening) await this.stop();
    },
  };
}
