// What the tests of signing in share: the token endpoint's calls, an identity provider that is ours to sign with, and
// the broker's own signing key, as somebody would have it who has the database and the master key.
import { type KeyObject, generateKeyPairSync, sign as signBytes } from "node:crypto";
import { createSigningKeys } from "../../src/auth/signing-keys.ts";
import { openMasterKeys } from "../../src/sealing/key-source.ts";
import { createSigningKeySealer } from "../../src/sealing/signing-key-sealer.ts";
import { createStore } from "../../src/store/store.ts";
import type { Answer, TestBroker } from "../harness/broker.ts";

export const EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
export const JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt";
export const ID_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:id_token";
export const ACCESS_TYPE = "urn:ietf:params:oauth:token-type:access_token";
export const AUDIENCE = "https://coffer.test";

type Headers = Readonly<Record<string, string>>;

/** POST /auth/token with a form, or with text that is sent as it is. */
export async function signIn(
  { url }: Pick<TestBroker, "url">,
  form: Readonly<Record<string, string>> | string,
  headers: Headers = {},
): Promise<Answer> {
  const body = typeof form === "string" ? form : new URLSearchParams(form).toString();
  const response = await fetch(`${url}/auth/token`, {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded", ...headers },
    body,
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, body: JSON.parse(text) };
}

export function withCredentials(
  broker: Pick<TestBroker, "url">,
  client_id: string,
  client_secret: string,
  more: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  return signIn(broker, { grant_type: "client_credentials", client_id, client_secret, ...more });
}

/** A workload's exchange, or, without `client_id`, a person's. */
export function exchange(
  broker: Pick<TestBroker, "url">,
  subject_token: string,
  more: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  return signIn(broker, { grant_type: EXCHANGE, subject_token, subject_token_type: JWT_TYPE, ...more });
}

/** The access token of an answer that must have one. */
export async function accessOf(answer: Promise<Answer>): Promise<string> {
  const { status, body, text } = await answer;
  if (status !== 200) throw new Error(`expected an access token, got ${status}: ${text}`);
  return body.access_token;
}

export function basic(id: string, secret: string): string {
  const encoded = [id, secret].map((each) => encodeURIComponent(each)).join(":");
  return `Basic ${Buffer.from(encoded).toString("base64")}`;
}

export const base64url = (text: string | Uint8Array): string => Buffer.from(text).toString("base64url");
export const nowSeconds = (): number => Math.floor(Date.now() / 1_000);

/** A JWT of texts that are given as they are, well-formed or not, signed with EdDSA. */
export function rawJwt(privateKey: KeyObject, header: string, claims: string): string {
  const input = `${base64url(header)}.${base64url(claims)}`;
  return `${input}.${base64url(signBytes(null, Buffer.from(input), privateKey))}`;
}

/** The two halves of a JWT, as text. */
export function partsOf(jwt: string) {
  const [header = "", claims = "", signature = ""] = jwt.split(".");
  const textOf = (part: string): string => Buffer.from(part, "base64url").toString("utf8");
  return { header: textOf(header), claims: textOf(claims), signature, payload: JSON.parse(textOf(claims)) };
}

/** An identity provider whose key the test has. */
export function issuerOf(issuer: string, kid = "key-1") {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const jwk = { ...publicKey.export({ format: "jwk" }), kid, alg: "EdDSA", use: "sig" };
  const token = (claims: Readonly<Record<string, unknown>> = {}): string => {
    const usual = { iss: issuer, aud: AUDIENCE, iat: nowSeconds(), exp: nowSeconds() + 300 };
    const header = JSON.stringify({ alg: "EdDSA", typ: "JWT", kid });
    return rawJwt(privateKey, header, JSON.stringify({ ...usual, ...claims }));
  };
  return { issuer, jwks: { keys: [jwk] }, token };
}

/** The key that the broker signs access tokens with now. */
export async function signingKeyOf(broker: TestBroker) {
  const clock = { now: () => new Date() };
  const { keys, close } = openStore(broker, clock);
  try {
    const masterKeys = await openMasterKeys(
      { own: { from: "environment", text: broker.masterKey }, next: null },
      keys,
    );
    const sealer = createSigningKeySealer(masterKeys);
    const newId = (): string => "";
    return await createSigningKeys(() => keys.signingKeys(), sealer, clock, newId).current();
  } finally {
    await close();
  }
}

function openStore({ databaseUrl }: TestBroker, clock: { now: () => Date }) {
  const store = createStore({ databaseUrl, poolSize: 2, clock, onBackgroundError: () => undefined });
  return { keys: store.keys, close: () => store.close() };
}
